"""Pure: how many mails with codes a deployment sends, and how many wrong guesses it bears."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from services.otp.challenge import CodeScope

HOUR = 60  # minutes
DAY = 24 * HOUR
TOTAL = "total"
SITE_BITS = 64  # of an IPv6 address: who has one has all of its network (RFC 6177)

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` mails or failures in any `minutes`, counted for one subject."""

    subject: str
    count: int
    minutes: int


@dataclass(frozen=True, slots=True)
class CodeLimits:
    """Mails in an hour or a day, failures in a day, for each of its kind; 0 is no limit."""

    recipient_hourly: int
    recipient_daily: int
    client_hourly: int
    ip_hourly: int
    domain_hourly: int
    total_hourly: int
    client_failures: int = 0
    ip_failures: int = 0

    def of(self, scope: CodeScope, ip: Address | None) -> Sequence[Limit]:
        """Give the limits of one mail; without an address there is none by it."""
        return [limit for limit in self._on_mails(scope, ip) if limit.count]

    def of_guess(self, scope: CodeScope, ip: Address | None) -> Sequence[Limit]:
        """Give the limits of one guess over all recipients; without an address none is by it.

        Two subjects and never the pair: a few guesses at each of many addresses, or from each of
        many networks, would pass any limit on that.
        """
        return [limit for limit in self._on_failures(scope, ip) if limit.count]

    def _on_failures(self, scope: CodeScope, ip: Address | None) -> Iterator[Limit]:
        yield Limit(f"client/{scope.client}", self.client_failures, DAY)
        if ip is not None:
            yield Limit(f"ip/{site(ip)}", self.ip_failures, DAY)

    def _on_mails(self, scope: CodeScope, ip: Address | None) -> Iterator[Limit]:
        recipient, domain = scope.recipient, scope.recipient.rpartition("@")[2]
        yield Limit(f"recipient/{recipient}", self.recipient_hourly, HOUR)
        yield Limit(f"recipient/{recipient}", self.recipient_daily, DAY)
        yield Limit(f"client/{scope.client}", self.client_hourly, HOUR)
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
