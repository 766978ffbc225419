"""The senders and networks of clients, in their canonical form."""

import pytest

from shared.contracts.clients import check_network, check_sender


def test_senders_are_canonical() -> None:
    """Senders are compared in their canonical form."""
    assert check_sender("@B\u00fccher.Example.") == "@xn--bcher-kva.example"
    assert check_sender("news@SHOP.example") == "news@shop.example"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("2001:DB8:0::/32", "2001:db8::/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::/0", "::/0"),
    ],
)
def test_networks_are_canonical(text: str, canonical: str) -> None:
    """A network has one form; an IPv4-mapped one is that of IPv4, as addresses are."""
    assert check_network(text) == canonical


@pytest.mark.parametrize(
    "text", ["", "192.0.2.0/33", "localhost", "10", "fe80::%eth0/64", "10.0.0.0/"]
)
def test_any_other_text_is_no_network(text: str) -> None:
    """A text that is no network is refused with an example."""
    with pytest.raises(ValueError, match=r"must be a network such as 192\.0\.2\.0/24"):
        check_network(text)


def test_a_network_with_bits_of_a_host_is_refused_with_what_may_be_meant() -> None:
    """The prefix or the address is mistaken, so nothing is guessed."""
    with pytest.raises(ValueError, match=r"behind the 8 of the network: 10\.0\.0\.0/8\?$"):
        check_network("10.0.0.1/8")
