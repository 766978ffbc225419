"""The addresses that may be called."""

from ipaddress import ip_network

import pytest

from services.webhooks.addresses import may_call

REFUSED = (
    # This host, private, shared, link-local (and the metadata of clouds), special, multicast
    *("127.0.0.1", "127.8.8.8", "0.0.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "100.64.0.1", "100.127.255.255", "169.254.169.254", "192.0.0.8"),
    *("192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1"),
    *("239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1"),
    *("100::1", "2001:db8::1", "2001::1", "2002:7f00:1::", "3fff::1", "4000::1", "64:ff9b:1::1"),
    # IPv4 within IPv6
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "64:ff9b::127.0.0.1"),
    *("::127.0.0.1", "2002:a00:1::1", "2001:0:7f00:1::"),
    *("", "shop.example", "1.2.3", "1.2.3.4.5"),
)
PUBLIC = ("8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2606:4700::1111")
PUBLIC_WITHIN = ("::ffff:8.8.8.8", "64:ff9b::8.8.8.8")


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    """It may be a host of the administrator's own network."""
    assert not may_call(address)


@pytest.mark.parametrize("address", [*PUBLIC, *PUBLIC_WITHIN])
def test_a_public_address_may_be_called(address: str) -> None:
    """Also within an IPv6 address, as networks without IPv4 write it."""
    assert may_call(address)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [("127.0.0.1", True), ("::ffff:127.0.0.1", True), ("127.1.0.1", False), ("::1", True)],
)
def test_a_network_may_be_allowed(address: str, allowed: bool) -> None:  # noqa: FBT001 -- a parameter
    """Only that one, in any spelling."""
    networks = (ip_network("127.0.0.0/16"), ip_network("::1/128"))

    assert may_call(address, networks) is allowed
