"""Pure: the address of a client, also behind proxies."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_HOPS = 20  # read of X-Forwarded-For, which a client may make of any length


def find(peer: str, forwarded: Sequence[str], proxies: Sequence[Network]) -> str:
    """Return the last address of X-Forwarded-For that is not in `proxies`, or else `peer`.

    Each proxy appends the address that called it. A client can write anything before that, so
    the fields are read from their end, and only while the addresses are those of `proxies`.
    """
    if not proxies:
        return peer
    hops = ",".join(forwarded).rsplit(",", MAX_HOPS)
    while hops and is_in(peer, proxies):
        hop = parse(hops.pop().strip())
        if hop is None:
            break
        peer = str(hop)
    return peer


def parse(text: str) -> Address | None:
    """Return the address of a text, an IPv4-mapped one as IPv4; None for any other text."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_in(text: str, networks: Sequence[Network]) -> bool:
    """Return whether a text is an address in one of the networks."""
    address = parse(text)
    return address is not None and any(address in network for network in networks)
