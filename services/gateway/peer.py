"""Pure: who is calling, when proxies stand between."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_HOPS = 20  # that are read; a caller may write a header of any length


def caller(remote: str, forwarded: Sequence[str], proxies: Sequence[Network]) -> str:
    """Give the caller's address: the last of X-Forwarded-For that no proxy of ours has.

    Anybody can write that header, so it is read from its end, as far as the addresses are those
    of `proxies`: each proxy adds at the end whom it was called by. `remote` is the peer's address.
    """
    if not proxies:
        return remote
    hops = ",".join(forwarded).rsplit(",", MAX_HOPS)
    while hops and is_any(remote, proxies):
        hop = canonical(hops.pop().strip())
        if hop is None:
            break
        remote = str(hop)
    return remote


def canonical(text: str) -> Address | None:
    """Give an address, one of IPv4 also when it is written as one of IPv6; None if it is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_any(text: str, networks: Sequence[Network]) -> bool:
    """Return whether an address is in one of the networks."""
    address = canonical(text)
    return address is not None and any(address in network for network in networks)
