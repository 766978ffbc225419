"""The addresses that a client may send from, and the networks in which its keys are valid."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest

from services.gateway.clients.clients import AllowedSenders, Client

NOW = datetime(2026, 11, 1, tzinfo=UTC)

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


@pytest.mark.parametrize(
    ("remote", "refusal"),
    [
        ("192.0.2.7", None),
        ("::ffff:192.0.2.7", None),
        ("2001:db8::1", None),
        ("192.0.3.7", "ForeignNetwork"),
        ("", "ForeignNetwork"),
        ("unix", "ForeignNetwork"),
    ],
)
def test_a_key_is_valid_in_the_networks_of_its_client(remote: str, refusal: str | None) -> None:
    """A key is valid in the networks of its client alone, and everywhere without any."""
    client = Client("shop", networks=[ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")])

    assert client.refusal(remote, NOW) == refusal
    assert Client("shop").refusal(remote, NOW) is None


def test_a_client_ends_at_its_time() -> None:
    """The keys of a client are valid until its end, and not from then on."""
    client = Client("shop", expires_at=NOW)

    assert client.refusal("192.0.2.7", NOW - timedelta(microseconds=1)) is None
    assert client.refusal("192.0.2.7", NOW) == "ClientExpired"
