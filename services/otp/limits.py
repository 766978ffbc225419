"""Pure: how many mails with codes a deployment sends, for whom and by whose wish."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from services.otp.challenge import Holder

HOUR = 60  # minutes
DAY = 24 * HOUR
TOTAL = "total"
SITE_BITS = 64  # of an IPv6 address: who has one has all of its network (RFC 6177)

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` mails in any `minutes`, counted for one subject."""

    subject: str
    count: int
    minutes: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Mails in an hour or a day, for each of its kind; 0 is no limit."""

    recipient_hourly: int
    recipient_daily: int
    client_hourly: int
    ip_hourly: int
    domain_hourly: int
    total_hourly: int

    def of(self, holder: Holder, ip: Address | None) -> Sequence[Limit]:
        """Give the limits of one mail; without an address there is none by it."""
        return [limit for limit in self._all(holder, ip) if limit.count]

    def _all(self, holder: Holder, ip: Address | None) -> Iterator[Limit]:
        recipient, domain = holder.recipient, holder.recipient.rpartition("@")[2]
        yield Limit(f"recipient/{recipient}", self.recipient_hourly, HOUR)
        yield Limit(f"recipient/{recipient}", self.recipient_daily, DAY)
        yield Limit(f"client/{holder.client}", self.client_hourly, HOUR)
        if ip is not None:
            yield Limit(f"ip/{site(ip)}", self.ip_hourly, HOUR)
        yield Limit(f"domain/{domain}", self.domain_hourly, HOUR)
        yield Limit(TOTAL, self.total_hourly, HOUR)


def site(ip: Address) -> str:
    """Name whom an address belongs to: an IPv4 address, or an IPv6 network."""
    if isinstance(ip, IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(IPv6Network((ip, SITE_BITS), strict=False))
