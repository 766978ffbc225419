"""Pure: the address of a client, also behind proxies."""

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Annotated

from pydantic import BeforeValidator

Address = IPv4Address | IPv6Address
Network = Annotated[
    IPv4Network | IPv6Network, BeforeValidator(lambda value: parse_network(str(value)))
]

MAPPED_PREFIX_BITS = 96  # of an IPv4 address that is written as IPv6 (RFC 4291 2.5.5.2)
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


def _network_mistake(text: str) -> str:
    """Return what is wrong with the text of a network."""
    with suppress(ValueError):
        meant = ip_network("" if "%" in text else text, strict=False)
        return f"has bits of a host behind the {meant.prefixlen} of the network: {meant}?"
    return "must be a network such as 192.0.2.0/24 or 2001:db8::/32"


@lru_cache
def parse_network(text: str) -> Network:
    """Return the network of a text, an IPv4-mapped one as IPv4. Raises ValueError."""
    try:
        # A zone means something to its host alone (RFC 4007 11).
        network = ip_network("" if "%" in text else text)
    except ValueError:
        raise ValueError(_network_mistake(text)) from None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < MAPPED_PREFIX_BITS:
        return network
    return IPv4Network((mapped, network.prefixlen - MAPPED_PREFIX_BITS))
