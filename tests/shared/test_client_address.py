"""The address of a client."""

from ipaddress import ip_network

import pytest

from shared import client_address

PROXIES = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["10.0.0.2,10.0.0.3"], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.7, unknown"], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
        ("2001:db8::1", ["2001:db9::7"], "2001:db9::7"),
        ("", ["198.51.100.7"], ""),
        ("10.0.0.1", ["198.51.100.7" + ",10.0.0.2" * 10_000], "10.0.0.2"),
    ],
)
def test_only_our_own_proxies_are_believed(peer: str, forwarded: list[str], client: str) -> None:
    """An address counts only if one of our proxies wrote it."""
    assert client_address.find(peer, forwarded, PROXIES) == client


def test_without_proxies_the_peer_is_the_client() -> None:
    """No proxy is believed by default, not even one on this machine."""
    assert client_address.find("127.0.0.1", ["198.51.100.7"], []) == "127.0.0.1"
