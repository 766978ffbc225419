"""The addresses that a client may send from."""

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
    """A mailbox is allowed by its address or domain, not by its name; no mailbox is allowed."""
    assert senders.allow(mailbox) is allowed


def test_senders_are_canonical() -> None:
    """Senders are compared in their canonical form."""
    assert check_sender("@B\u00fccher.Example.") == "@xn--bcher-kva.example"
    assert check_sender("news@SHOP.example") == "news@shop.example"
