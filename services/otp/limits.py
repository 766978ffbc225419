"""Pure: limits on mails with codes and on wrong guesses, counted in slots of time."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Any

from services.otp.codes import SECOND_MS, CodeScope

MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
TOTAL = "total"
SITE_BITS = 64  # of an IPv6 address: one customer has all of such a network (RFC 6177)

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` mails or failures of one subject in any `window_ms`."""

    subject: str
    count: int
    window_ms: int


@dataclass(frozen=True, slots=True)
class CodeLimits:
    """The mails in an hour or a day and the failures in a day, of each kind; 0 is no limit."""

    recipient_hourly: int
    recipient_daily: int
    client_hourly: int
    ip_hourly: int
    domain_hourly: int
    total_hourly: int
    client_failures: int = 0
    ip_failures: int = 0

    def of_mail(self, scope: CodeScope, ip: Address | None) -> Sequence[Limit]:
        """Return the limits of one mail; without an address no limit is by address."""
        return [limit for limit in self._on_mails(scope, ip) if limit.count]

    def of_guess(self, scope: CodeScope, ip: Address | None) -> Sequence[Limit]:
        """Return the limits of one guess over all recipients, as `of_mail` does.

        Client and address are limited each, and not the pair: a few guesses at each of many
        addresses, or from each of many networks, would pass any limit on the pair.
        """
        return [limit for limit in self._on_failures(scope, ip) if limit.count]

    def _on_failures(self, scope: CodeScope, ip: Address | None) -> Iterator[Limit]:
        yield Limit(f"client/{scope.client}", self.client_failures, DAY_MS)
        if ip is not None:
            yield Limit(f"ip/{site(ip)}", self.ip_failures, DAY_MS)

    def _on_mails(self, scope: CodeScope, ip: Address | None) -> Iterator[Limit]:
        recipient, domain = scope.recipient, scope.recipient.rpartition("@")[2]
        yield Limit(recipient_subject(recipient), self.recipient_hourly, HOUR_MS)
        yield Limit(recipient_subject(recipient), self.recipient_daily, DAY_MS)
        yield Limit(f"client/{scope.client}", self.client_hourly, HOUR_MS)
        if ip is not None:
            yield Limit(f"ip/{site(ip)}", self.ip_hourly, HOUR_MS)
        yield Limit(f"domain/{domain}", self.domain_hourly, HOUR_MS)
        yield Limit(TOTAL, self.total_hourly, HOUR_MS)


def recipient_subject(recipient: str) -> str:
    """Return the subject of the limits on mails to a recipient, its address in lower case."""
    return f"recipient/{recipient}"


def site(ip: Address) -> str:
    """Return the name of one customer's addresses: an IPv4 address, or an IPv6 network."""
    if isinstance(ip, IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(IPv6Network((ip, SITE_BITS), strict=False))


class WindowCounter:
    """Mails or failures by subject and slot of time; slots are counted from 1970 on.

    `now` and the length of a slot are in milliseconds. A slot counts as a whole, so that never
    more than a limit's count fall into its window; the price is that a limit may hold up to a slot
    longer.
    """

    def __init__(
        self, counted: Iterable[Sequence[Any]], now: int, slot_ms: int = MINUTE_MS
    ) -> None:
        self._slot_ms = slot_ms
        self._slot, self._into_slot = divmod(now, slot_ms)
        self._counts = defaultdict[str, Counter[int]](Counter)
        self._added = Counter[str]()
        for subject, slot, count in counted:
            self._counts[subject][slot] += count
        self._sums = {subject: counts.total() for subject, counts in self._counts.items()}

    @property
    def slot(self) -> int:
        """The present slot."""
        return self._slot

    @property
    def added(self) -> Mapping[str, int]:
        """The numbers that were added in this slot, by subject."""
        return self._added

    def take(self, limits: Sequence[Limit]) -> int:
        """Count one if all limits allow it; otherwise return the milliseconds until they do."""
        wait = max(map(self.wait, limits), default=0)
        if not wait:
            self.add(each.subject for each in limits)
        return wait

    def add(self, subjects: Iterable[str]) -> None:
        """Count one for each subject."""
        self._added.update(subjects)

    def wait(self, limit: Limit) -> int:
        """Return the milliseconds until a limit allows one more, 0 if it does now."""
        # Nearly always the sum is below the limit, and then no slot has to be looked at.
        if self._sums.get(limit.subject, 0) + self._added[limit.subject] < limit.count:
            return 0
        return self._until_allowed(limit)

    def _until_allowed(self, limit: Limit) -> int:
        counts = Counter(self._counts[limit.subject])
        counts[self._slot] += self._added[limit.subject]
        slots = limit.window_ms // self._slot_ms
        recent = sorted(each for each in counts if each >= self._slot - slots)
        left = sum(counts[slot] for slot in recent)
        wait = 0
        for slot in recent:
            if left < limit.count:
                break
            left -= counts[slot]
            # The slot counts until all of it lies as far back as the window reaches.
            wait = (slot + slots + 1 - self._slot) * self._slot_ms - self._into_slot
        return wait
