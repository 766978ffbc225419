"""Pure: the addresses that a client may have called.

A receiver's name is the client's own: it may lead into the administrator's network, at any time,
also at the second look-up (server-side request forgery).
"""

from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291 2.4: all others are for special purposes
_TRANSLATED = IPv6Network("64:ff9b::/96")  # NAT64 (RFC 6052 2.1): the last 32 bits are IPv4
_TUNNELLED = (IPv6Network("2002::/16"), IPv6Network("2001::/32"))  # 6to4, Teredo: IPv4 inside
_SPECIAL = (
    # Not in the tables of every Python: RFC 6890 and later entries of IANA's registries.
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv6Network("2001::/23"),
    IPv6Network("2001:db8::/32"),
    IPv6Network("3fff::/20"),
)


def may_call(text: str, allowed: Sequence[Network] = ()) -> bool:
    """Return whether the address in a text is public, or in a network that is allowed.

    An IPv4 address within an IPv6 one counts as itself.
    """
    try:
        address = unwrapped(ip_address(text.partition("%")[0]))
    except ValueError:
        return False
    return any(address in each for each in allowed if each.version == address.version) or (
        is_public(address)
    )


def unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does; else itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _TRANSLATED:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def is_public(address: Address) -> bool:
    """Return whether an address is a host of the public internet."""
    if isinstance(address, IPv6Address) and (
        address not in _GLOBAL_UNICAST or any(address in each for each in _TUNNELLED)
    ):
        return False
    special = any(address in each for each in _SPECIAL if each.version == address.version)
    return address.is_global and not (special or address.is_multicast or address.is_reserved)
