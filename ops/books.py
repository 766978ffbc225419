"""Pure: whether the ledger's books add up, and the life of one mail, as text for a person."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from shared.contracts import Category, EmailCounts, EmailRecord, EmailStatus, HistoryEntry

_BOUNCED = ("bounced_permanent", "bounced_transient", "bounced_undetermined")
_ENDED = tuple(each for each in EmailStatus if each.ended)
SHOWN_IDS = 50  # of each kind; there may be millions
# Of mails for later beyond their time: very many of them may be due at one moment.
RELEASE = timedelta(minutes=10)

# An id and its client: ids of batches are the clients' own, so two may have the same.
MailName = tuple[str, str | None]


class WaitingMail(NamedTuple):
    """A mail with recipients that have no final outcome."""

    email_id: str
    client: str | None
    category: Category
    accepted_at: datetime
    recipients: int
    scheduled_at: datetime | None

    @property
    def since(self) -> datetime:
        """The time from which on a sender may have it."""
        return self.scheduled_at or self.accepted_at

    def is_for_later(self, now: datetime) -> bool:
        """Return whether it waits at the scheduler."""
        return self.scheduled_at is not None and now < self.scheduled_at + RELEASE

    def __str__(self) -> str:
        """Return it as a person reads it."""
        later = f", for {self.scheduled_at:%F %T%z}" if self.scheduled_at else ""
        accepted = f"accepted {self.accepted_at:%F %T%z}{later}"
        return f"{self.email_id} ({owned(self.client)}, {self.category}, {accepted})"


def owned(client: str | None) -> str:
    """Return the client of a mail as a person reads it."""
    return f"client {client}" if client else "no client"


@dataclass(frozen=True, slots=True)
class Recount:
    """The recipients of all mails by their status, counted one by one."""

    statuses: Counter[EmailStatus] = field(default_factory=Counter)
    waiting: dict[MailName, WaitingMail] = field(default_factory=dict)

    def add(self, email: EmailRecord) -> None:
        """Count the recipients of a mail."""
        self.statuses.update(each.status for each in email.recipients)
        left = sum(not each.status.ended for each in email.recipients)
        if left:
            self.waiting[email.email_id, email.client] = WaitingMail(
                *(email.email_id, email.client, email.category, email.accepted_at),
                *(left, email.scheduled_at),
            )


@dataclass(frozen=True, slots=True)
class Books:
    """The evidence: the sums before and after the recount, and where else mails are.

    `forgotten` are the sums of recipients without a mail, as people were forgotten, before and
    after the recount.
    `still_waiting` are the mails of the recount that were waiting at a later look too, with all
    that the queues held in between. `dead` are the mails in dead letters by their queue, of which
    the ledger does not know `unknown`.
    """

    before: EmailCounts
    recount: Recount
    after: EmailCounts
    forgotten: tuple[EmailCounts, EmailCounts]
    still_waiting: AbstractSet[MailName]
    queues: Mapping[str, int]
    dead: Mapping[str, AbstractSet[MailName]]
    unknown: AbstractSet[MailName]

    @property
    def missing(self) -> Sequence[WaitingMail]:
        """The mails that wait and are not in a dead letter, the oldest first."""
        dead = {each for names in self.dead.values() for each in names}
        return sorted((self.recount.waiting[key] for key in self.still_waiting - dead), key=_age)

    @property
    def dead_recipients(self) -> int:
        """The number of recipients that wait in dead letters."""
        missing = sum(each.recipients for each in self.missing)
        return sum(self.recount.waiting[key].recipients for key in self.still_waiting) - missing


def for_later(books: Books, now: datetime) -> int:
    """Return the number of recipients whose mail waits for its time."""
    mails = books.recount.waiting.values()
    return sum(each.recipients for each in mails if each.is_for_later(now))


def _age(mail: WaitingMail) -> tuple[datetime, str]:
    return mail.accepted_at, mail.email_id


def equation(books: Books) -> str:
    """Return the sums as an equation that a person can check."""
    after, dead = books.after, books.dead_recipients
    named: Mapping[str, int] = {
        "delivered": after.delivered,
        "bounced": sum(getattr(after, name) for name in _BOUNCED),
        **{each.value: _of_status(after, each) for each in _ENDED[2:]},
        "waiting": after.waiting - dead,
        "dead": dead,
    }
    parts = " + ".join(f"{count} {name}" for name, count in named.items())
    return f"{after.accepted} accepted = {parts}"


def faults(books: Books, now: datetime, patience: Mapping[Category, timedelta]) -> Iterator[str]:
    """Yield a line for each thing that does not add up; `patience` is how long a mail may wait."""
    yield from _wrong_sums(books)
    yield from _lost(books, now, patience)
    for email_id, client in sorted(books.unknown, key=str):
        yield f"not in the ledger: {email_id} ({owned(client)}), which is in a dead letter"


def _wrong_sums(books: Books) -> Iterator[str]:
    """Yield each status whose recount is not between the sums before and after it.

    The two are equal while no outcome comes. Final outcomes stay, so these sums only grow, unless a
    report says that a mail bounced: each such move is in the growth of that sum. Of forgotten
    recipients there is no mail to count. Those that wait leave the sums.
    """
    counted, (earlier, later) = books.recount.statuses, books.forgotten
    bounced = [_of_status(each, EmailStatus.BOUNCED) for each in (books.before, books.after)]
    reported = max(0, bounced[1] - bounced[0])
    for status in _ENDED:
        moved = 0 if status is EmailStatus.BOUNCED else reported
        sums = sorted((_of_status(books.before, status), _of_status(books.after, status)))
        least = max(0, sums[0] - moved - _of_status(later, status))
        most = sums[1] + moved - _of_status(earlier, status)
        if not least <= counted[status] <= most:
            yield f"{status}: the sums have {_range(least, most)}, the mails {counted[status]}"
    accepted, mails = sorted((books.before.accepted, books.after.accepted)), counted.total()
    least, most = accepted[0] - later.accepted, accepted[1] - earlier.accepted
    if not least <= mails <= most:
        yield f"accepted: the sums have {_range(least, most)}, the mails {mails}"
    total = sum(getattr(books.after, name) for name in ("waiting", *_BOUNCED)) + sum(
        _of_status(books.after, each) for each in _ENDED if each is not EmailStatus.BOUNCED
    )
    if total != books.after.accepted:
        yield f"accepted: {books.after.accepted} are not the sum of all states, {total}"


def _lost(books: Books, now: datetime, patience: Mapping[Category, timedelta]) -> Iterator[str]:
    """Yield the mails that no queue and no dead letter has, as far as that can be known.

    A mail for later waits in the scheduler's database until its time. After it the mail is late,
    and not lost for certain: the scheduler may have it, if none runs.
    """
    missing = [each for each in books.missing if not each.is_for_later(now)]
    at_once = [each for each in missing if each.scheduled_at is None]
    on_the_way = sum(books.queues.values())
    if not on_the_way:
        yield from _listed("lost", at_once)
        yield from _listed("late", [each for each in missing if each.scheduled_at is not None])
        return
    late = [each for each in missing if now - each.since > patience[each.category]]
    yield from _listed("late", late)
    if len(at_once) > on_the_way:
        yield (
            f"lost: {len(at_once) - on_the_way} or more mails, of {len(at_once)} that wait with "
            f"{on_the_way} messages in queues; empty queues would show which"
        )


def _listed(word: str, mails: Sequence[WaitingMail]) -> Iterator[str]:
    for each in mails[:SHOWN_IDS]:
        yield f"{word}: {each}"
    if len(mails) > SHOWN_IDS:
        yield f"{word}: {len(mails) - SHOWN_IDS} more"


def _of_status(counts: EmailCounts, status: EmailStatus) -> int:
    names = _BOUNCED if status is EmailStatus.BOUNCED else (status.value,)
    return sum(getattr(counts, name) for name in names)


def _range(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def life(email: EmailRecord, history: Sequence[HistoryEntry]) -> str:
    """Format the facts of a mail, and the outcomes of each recipient."""
    return "\n".join([*_facts(email), *_recipients(email, history)])


def _facts(email: EmailRecord) -> Iterator[str]:
    facts = {
        "id": email.email_id,
        "client": email.client,
        "category": email.category,
        "from": email.from_,
        "subject": email.subject,
        "list": email.list_id,
        "tags": ", ".join(f"{name}:{value}" for name, value in email.tags.items()),
        "metadata": ", ".join(f"{name}={value}" for name, value in email.metadata.items()),
        "size": f"{email.size_bytes} bytes",
        "message id": email.message_id,
        "accepted": _time(email.accepted_at),
        "expires": email.expires_at and _time(email.expires_at),
        "scheduled": email.scheduled_at and _time(email.scheduled_at),
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        if value:
            yield f"{name:{width}}  {value}"


def _recipients(email: EmailRecord, history: Sequence[HistoryEntry]) -> Iterator[str]:
    for each in email.recipients:
        yield f"\n{each.recipient}: {each.status}"
        for entry in history:
            if entry.recipient == each.recipient:
                yield f"  {_time(entry.at)}  {_origin(entry)}  {_outcome(entry)}"


def _origin(entry: HistoryEntry) -> str:
    """Return the attempt of an outcome, or the source of a report."""
    if entry.report is None:
        return f"attempt {entry.attempt}"
    reporter = f" of {entry.reporter}" if entry.reporter else ""
    return f"report {entry.report} by {entry.source}{reporter}"


def _outcome(entry: HistoryEntry) -> str:
    again = f"again in {entry.retry_after:g} s" if entry.retry_after is not None else None
    parts = (entry.status, _reply(entry), entry.reply_class, entry.reason, again)
    return "; ".join(str(part) for part in parts if part)


def _reply(entry: HistoryEntry) -> str | None:
    reply = entry.reply
    if reply is None:
        return None
    return " ".join(filter(None, (str(reply.code), reply.enhanced, reply.text)))


def _time(at: datetime) -> str:
    return at.isoformat(" ", "seconds")
