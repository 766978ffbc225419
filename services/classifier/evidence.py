"""Pure: the evidence of an event on a domain, and the sums of many events."""

from binascii import b2a_base64
from bisect import bisect_right
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from shared.contracts import (
    EmailBounced,
    EmailDelivered,
    FeedbackReported,
    Kind,
    ReplyClass,
    ReportBounced,
    address,
)

Outcome = EmailDelivered | EmailBounced | ReportBounced
Event = Outcome | FeedbackReported

KEY_BYTES = 15  # 20 letters; of 10^12 events no two are likely to share one (1 in 10^12)
SORT_RUN = 512  # names sorted at once, in some 0.2 ms

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# Read for each event, and an enumeration is slow to return its values.
_DELIVERED, _BOUNCED = Kind.DELIVERED.value, Kind.BOUNCED.value
_UNDETERMINED = ReplyClass.UNDETERMINED.value

# The sums of one domain in a batch, as the database takes them: a list, since any other object for
# each of a million domains costs as much as the addition. Times are milliseconds since 1970.
DOMAIN, FIRST, LAST, DELIVERED, BOUNCED, REFUSED, UNDETERMINED, TAKEN_BACK = range(8)
DomainSums = list[Any]


class Observation(NamedTuple):
    """The evidence of one event on one domain.

    `kind` is `delivered`, `bounced`, or the reply class of a refusal that proves nothing. `key` is
    the same for copies of one event alone, `mail` for all events of one mail to one recipient;
    None if that is not known.
    """

    key: str
    domain: str
    kind: str
    at: int  # milliseconds since 1970
    mail: str | None = None
    recipient: str | None = None


def observe(event: Event) -> Iterator[Observation]:
    """Yield the evidence of an event on its domains.

    Of our own bounces only "no such mailbox" counts as one: a policy block, a full mailbox or a
    broken relay would refuse mail to a catch-all domain too. So it is with a report that comes
    later. Feedback counts as its sender classes it. Raises ValueError when the recipient has no
    domain.
    """
    if isinstance(event, FeedbackReported):
        yield from _reported(event)
    else:
        yield _own(event)


def latest(event: Event) -> datetime:
    """Return the latest time in an event."""
    if isinstance(event, FeedbackReported):
        return max(each.at for each in event.sightings)
    return event.at


def hashed(*parts: str) -> str:
    """Return a short name for `parts`, of which only the last may have a slash of its own."""
    digest = blake2b("/".join(parts).encode(), digest_size=KEY_BYTES).digest()
    return b2a_base64(digest, newline=False).decode()


def _own(event: Outcome) -> Observation:
    domain = address.check_domain(address.domain_of(event.recipient))
    kind = _kind(event)
    return Observation(
        # Not the id alone: of two events with one id, the verdict would depend on their order.
        hashed("event", event.id, kind, event.recipient),
        domain,
        kind,
        _milliseconds(event.at),
        f"/{event.email_id}/{domain}/{event.recipient}",
        event.recipient,
    )


def _kind(event: Outcome) -> str:
    if isinstance(event, EmailDelivered):
        return Kind.DELIVERED
    if event.reply_class == ReplyClass.MAILBOX_UNKNOWN:
        return Kind.BOUNCED
    return event.reply_class


def _reported(report: FeedbackReported) -> Iterator[Observation]:
    client = report.client or ""
    for each in report.sightings:
        domain, kind, recipient = each.domain, each.kind, each.recipient or ""
        mail = f"{client}/{each.email_id}/{domain}/{recipient}" if each.email_id else None
        # A client may use the mail's id as the id of an outcome, for all recipients of the mail.
        key = hashed("sighting", client, each.id, kind, mail or f"{domain}/{recipient}")
        yield Observation(key, domain, kind, _milliseconds(each.at), mail, each.recipient)


def _milliseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MILLISECOND


@dataclass(slots=True)
class MailOutcomes:
    """The outcomes of one mail to one recipient at `domain`."""

    domain: str
    delivered: int = 0
    refused: int = 0

    @property
    def standing(self) -> int:
        """The deliveries that count: all of them while no refusal is known, else none."""
        return 0 if self.refused else self.delivered


class EvidenceBatch:
    """The sums of some observations, by domain.

    An observation counts once for its key, and not at all if the key is `known`. `keys` and `names`
    are the keys and domains in order; `events` has the key of one event of each domain.

    The time of a copy counts: a client that repeats an event may well give another time, and the
    order of the copies must not matter.
    """

    def __init__(
        self, observations: Sequence[Observation], known: Container[str] = frozenset()
    ) -> None:
        self.observations = observations
        self.domains: dict[str, DomainSums] = {}
        self.events: dict[str, str] = {}
        self.refusals: dict[tuple[str, str], int] = {}
        counted = self._add(known)
        self.keys = [key for run in in_order(counted) for key in run]
        self.names = [name for run in in_order(self.domains) for name in run]

    @property
    def delivered(self) -> int:
        """The number of deliveries to all domains."""
        return sum(map(itemgetter(DELIVERED), self.domains.values()))

    @property
    def bounced(self) -> int:
        """The number of bounces of all domains."""
        return sum(map(itemgetter(BOUNCED), self.domains.values()))

    def take_back(self, added: "MailOutcomes", after: "MailOutcomes") -> None:
        """Correct the deliveries of one mail, which now has the outcomes `after` with `added`."""
        before = MailOutcomes(
            added.domain, after.delivered - added.delivered, after.refused - added.refused
        )
        counted = after.standing - before.standing
        sums = self.domains[added.domain]
        # Each delivery is in one of the two sums, so a change of one is a change of the other.
        sums[TAKEN_BACK] += added.delivered - counted
        sums[DELIVERED] += counted - added.delivered

    def clear(self) -> None:
        """Free the sums one by one: to free those of a full batch at once halts all threads."""
        while self.domains:
            self.domains.popitem()

    def _add(self, known: Container[str]) -> Collection[str]:
        """Add all observations; return the keys that were counted."""
        counted: set[str] = set()
        for key, domain, kind, at, _, _ in self.observations:
            sums = self.domains.get(domain)
            if sums is None:
                sums = self.domains[domain] = [domain, at, at, 0, 0, 0, 0, 0]
            elif at < sums[FIRST]:
                sums[FIRST] = at
            elif at > sums[LAST]:
                sums[LAST] = at
            if key not in counted and key not in known:
                counted.add(key)
                self.events[domain] = key
                self._count(sums, kind)
        return counted

    def _count(self, sums: DomainSums, kind: str) -> None:
        if kind == _DELIVERED:
            sums[DELIVERED] += 1
        elif kind == _BOUNCED:
            sums[BOUNCED] += 1
        else:
            sums[REFUSED] += 1
            sums[UNDETERMINED] += kind == _UNDETERMINED
            refusal = sums[DOMAIN], kind
            self.refusals[refusal] = self.refusals.get(refusal, 0) + 1


def mail_outcomes(
    observations: Iterable[Observation], fresh: Collection[str]
) -> Mapping[str, MailOutcomes]:
    """Return the outcomes of each mail, by a hash that names it; each fresh key counts once."""
    mails: dict[str, MailOutcomes] = {}
    left = set(fresh)
    for each in observations:
        if each.mail is None or each.key not in left:
            continue
        left.remove(each.key)
        mail = mails.setdefault(hashed("mail", each.mail), MailOutcomes(each.domain))
        if each.kind == Kind.DELIVERED:
            mail.delivered += 1
        else:
            mail.refused += 1
    return mails


def in_order(names: Collection[str]) -> Iterator[Sequence[str]]:
    """Yield sorted runs of names, one after the other; some are empty.

    A sort holds Python's lock until its end. Between short ones other threads can answer.
    """
    if len(names) <= SORT_RUN:
        yield sorted(names)
        return
    bounds = sorted(islice(names, 0, None, SORT_RUN))
    runs: list[list[str]] = [[] for _ in range(len(bounds) + 1)]
    for name in names:
        runs[bisect_right(bounds, name)].append(name)
    for run in runs:
        run.sort()
        yield run
