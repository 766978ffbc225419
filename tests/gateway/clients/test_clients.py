"""From whom a client may send."""

import pytest

from services.gateway.clients.clients import AllowedSenders, check_sender

OURS = AllowedSenders(["news@shop.example", "@outlet.example"])


@pytest.mark.parametrize(
    ("senders", "mailbox", "allowed"),
    [
        (OURS, "news@shop.example", True),
        (OURS, "News <news@shop.example>", True),
        (OURS, '"news@shop.example" <a@bank.example>', False),
        (OURS, "other@shop.example", False),
        (OURS, "any@outlet.example", True),
        (OURS, "any@sub.outlet.example", False),
        (OURS, "any@notoutlet.example", False),
        (OURS, None, True),
        (AllowedSenders([]), "a@x.example", False),
        (AllowedSenders([]), None, True),
        (AllowedSenders(), "a@x.example", True),
    ],
)
def test_a_sender_is_allowed_by_its_address_or_domain(
    senders: AllowedSenders,
    mailbox: str | None,
    allowed: bool,  # noqa: FBT001 -- the parameters of pytest go by name
) -> None:
    """The address counts, not the name before it; the default of the deployment is for all."""
    assert senders.allow(mailbox) is allowed


def test_senders_are_canonical() -> None:
    """What is compared with them is."""
    assert check_sender("@B\u00fccher.Example.") == "@xn--bcher-kva.example"
    assert check_sender("news@SHOP.example") == "news@shop.example"
