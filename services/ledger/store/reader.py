"""Reads of mails, which wait for no record that is being written.

A page is a range of an index, from the newest number down. What the index does not decide is looked
up for at most MAX_SCANNED mails: a page of a rare combination may have few mails, or none, and the
place where the next one goes on.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa

from services.ledger.answers import KeptMail, MessageRow
from services.ledger.mails import (
    CATEGORIES,
    STATUSES,
    RecordedOutcome,
    address_hash,
    first_key,
    first_number,
    mail_key,
    milliseconds,
)
from services.ledger.store.tables import history, mail_keys, message_tags, messages, recipients
from shared.contracts import EmailStatus, ListEmails
from shared.contracts.fields import MAX_RECIPIENTS
from shared.contracts.ledger import MAX_HISTORY
from shared.storage.database import Database

MAX_SCANNED = 5000  # mails of a page that are looked up for conditions beside its index
# One answer holds some 50,000 values at most, of which a recipient has ten.
MAX_PAGE_RECIPIENTS = 2000
_LAST_NUMBER = 2**63 - 1
_DELIVERED = STATUSES.index(EmailStatus.DELIVERED)
# As the partial index has it: the number of a status is no text of the query otherwise.
_NOT_DELIVERED = recipients.c.status != sa.literal_column("2")
_KEY_END = b"\xff" * 32  # above all keys of one beginning

_OUTCOME = ("recipient", "attempt", "outcome", "status", "at", "detail")
_MESSAGES = sa.select(messages).where(messages.c.number.in_(sa.bindparam("of", expanding=True)))
_RECIPIENTS = (
    sa.select(recipients.c.message, *(recipients.c[name] for name in _OUTCOME))
    .where(recipients.c.message.in_(sa.bindparam("of", expanding=True)))
    .order_by(recipients.c.message.desc(), recipients.c.recipient)
    .limit(sa.bindparam("limit"))
)
_EARLIER = (
    sa.select(*(history.c[name] for name in _OUTCOME))
    .where(history.c.message == sa.bindparam("of"))
    .order_by(history.c.at.desc())
    .limit(MAX_HISTORY)
)
_BY_KEY = (
    sa.select(mail_keys.c.message)
    .where(mail_keys.c.key.between(sa.bindparam("first"), sa.bindparam("last")))
    .where(mail_keys.c.message.is_not(None))
    .order_by(mail_keys.c.key)
    .limit(1)
)


class MailFilter(NamedTuple):
    """The conditions of a list, in the types of the database; None where there is no condition."""

    client: str | None
    address_hash: int | None
    status: int | None
    category: int | None
    tag: str | None
    first: int  # numbers from this one on
    end: int  # and below this one

    @classmethod
    def of(cls, question: ListEmails) -> "MailFilter":
        """Return the conditions of a question."""
        since, until = question.since, question.until
        end = _LAST_NUMBER if until is None else first_number(milliseconds(until))
        after = _LAST_NUMBER if question.after is None else int(question.after, 16)
        return cls(
            question.client,
            address_hash(question.recipient) if question.recipient else None,
            STATUSES.index(question.status) if question.status else None,
            CATEGORIES.index(question.category) if question.category else None,
            question.tag,
            # A database holds no number of a year as late as a client may write.
            0 if since is None else min(first_number(milliseconds(since)), _LAST_NUMBER),
            min(end, after, _LAST_NUMBER),
        )


class MailPage(NamedTuple):
    """Mails, the newest first, and the number that the next page goes on below, 0 at the end."""

    mails: Sequence[KeptMail]
    next: int


_Range = tuple[sa.Column[int], Sequence[sa.ColumnElement[bool]]]


class _Index(NamedTuple):
    """Ranges of an index that hold all mails of a list, and the conditions that are left."""

    ranges: Sequence[_Range]
    others: Sequence[Callable[[sa.ColumnElement[int]], sa.Exists]]


class MailReader:
    """Reads the mails of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, email_id: str, client: str | None) -> KeptMail | None:
        """Return a mail of a client, or of any if None."""
        return await self._database.read_inline(partial(_find, email_id=email_id, client=client))

    async def page(self, conditions: MailFilter, limit: int) -> MailPage:
        """Return the newest mails below `conditions.end`, at most `limit`."""
        return await self._database.read(partial(_page, conditions=conditions, limit=limit))


def clients_of(connection: sa.Connection, column: sa.Column[str]) -> Sequence[str]:
    """Return the values of the first column of an index, each by one look-up in it."""
    first = sa.select(sa.func.min(column).label("client")).cte("clients", recursive=True)
    following = sa.select(sa.func.min(column)).where(column > first.c.client).scalar_subquery()
    found = first.union_all(sa.select(following).where(first.c.client.is_not(None)))
    query = sa.select(found.c.client).where(found.c.client.is_not(None))
    return connection.execute(query).scalars().all()


def _find(connection: sa.Connection, email_id: str, client: str | None) -> KeptMail | None:
    first = first_key(email_id) if client is None else mail_key(email_id, client)
    last = first + _KEY_END if client is None else first
    number = connection.execute(_BY_KEY, {"first": first, "last": last}).scalar()
    if number is None:
        return None
    earlier = [RecordedOutcome(*row) for row in connection.execute(_EARLIER, {"of": number})]
    stored = _stored(connection, [number])  # none if it was forgotten just now
    return stored[0]._replace(earlier=earlier) if stored else None


def _page(connection: sa.Connection, conditions: MailFilter, limit: int) -> MailPage:
    numbers, following = _numbers(connection, conditions, limit)
    mails = _stored(connection, numbers)
    if len(mails) < len(numbers) and mails:
        following = mails[-1].message.number
    return MailPage(mails, following)


def _numbers(
    connection: sa.Connection, conditions: MailFilter, limit: int
) -> tuple[Sequence[int], int]:
    """Return the numbers of a page, and where the next one goes on."""
    found: list[int] = []
    bound = 0
    for each in _of_clients(connection, conditions):
        numbers, reached = _of_client(connection, each, limit + 1)
        found += numbers
        bound = max(bound, reached)
    # Below the bound not all mails of all clients are known.
    ordered = sorted({number for number in found if number >= bound}, reverse=True)
    if len(ordered) > limit:
        return ordered[:limit], ordered[limit - 1]
    return ordered, bound


def _of_clients(connection: sa.Connection, conditions: MailFilter) -> Iterator[MailFilter]:
    """Yield the conditions once for each client where the indexes begin with the client."""
    client, address, status, category, tag, *_ = conditions
    if client is not None or address is not None or (status, category, tag) == (None,) * 3:
        yield conditions
        return
    for each in clients_of(connection, messages.c.client):
        yield conditions._replace(client=each)


def _of_client(
    connection: sa.Connection, conditions: MailFilter, limit: int
) -> tuple[Sequence[int], int]:
    """Return numbers, at most `limit`, and the number down to which these are all; 0 for all."""
    index = _index(conditions)
    scanned = MAX_SCANNED if index.others else limit
    candidates = _candidates(index, conditions, scanned)
    number = candidates.c.number
    query = sa.select(number).where(*(each(number) for each in index.others))
    numbers = connection.execute(query.order_by(number.desc()).limit(limit)).scalars().all()
    if len(numbers) == limit:
        return numbers, numbers[-1]
    if not index.others:
        return numbers, 0
    count, lowest = connection.execute(
        sa.select(sa.func.count(), sa.func.min(number)).select_from(candidates)
    ).one()
    return numbers, lowest if count == scanned else 0


def _candidates(index: _Index, conditions: MailFilter, limit: int) -> sa.Subquery:
    """Return the newest numbers in some ranges of an index, at most `limit`."""
    parts = [
        sa.select(column.label("number"))
        .distinct()
        .where(column >= conditions.first, column < conditions.end, *where)
        .order_by(column.desc())
        .limit(limit)
        .subquery()
        for column, where in index.ranges
    ]
    every = sa.union_all(*(sa.select(part.c.number) for part in parts)).subquery()
    newest = sa.select(every.c.number).order_by(every.c.number.desc()).limit(limit)
    return newest.subquery("candidates")


def _index(conditions: MailFilter) -> _Index:
    """Return the index that leaves the fewest mails to look up: most mails are delivered."""
    client, address, status, category, tag, *_ = conditions
    owner = recipients.c.client == client
    left = {
        "status": status is not None and partial(_has_status, address=address, status=status),
        "category": category is not None and partial(_is_message, category=category),
        "tag": tag is not None and partial(_has_tag, tag=tag),
        "client": client is not None and partial(_is_message, client=client),
    }
    ranges: Sequence[_Range]
    if address is not None:
        ranges = [(recipients.c.message, [recipients.c.address_hash == address])]
    elif status not in {None, _DELIVERED}:
        here = [owner, recipients.c.status == status, _NOT_DELIVERED]
        ranges = [(recipients.c.message, here)]
        del left["status"], left["client"]
    elif tag is not None:
        here = [message_tags.c.client == client, message_tags.c.tag == tag]
        ranges = [(message_tags.c.message, here)]
        del left["tag"], left["client"]
    else:
        ranges = _ranges_of_messages(client, category)
        del left["category"], left["client"]
    return _Index(ranges, [each for each in left.values() if each])


def _ranges_of_messages(client: str | None, category: int | None) -> Sequence[_Range]:
    if client is None:
        return [(messages.c.number, [])]
    wanted = range(len(CATEGORIES)) if category is None else [category]
    column = messages.c
    return [(column.number, [column.client == client, column.category == each]) for each in wanted]


def _is_message(number: sa.ColumnElement[int], **facts: object) -> sa.Exists:
    equal = (messages.c[name] == value for name, value in facts.items())
    return sa.exists().where(messages.c.number == number, *equal)


def _has_tag(number: sa.ColumnElement[int], tag: str) -> sa.Exists:
    owned = sa.and_(message_tags.c.client == messages.c.client, message_tags.c.message == number)
    return sa.exists().where(messages.c.number == number, owned, message_tags.c.tag == tag)


def _has_status(number: sa.ColumnElement[int], address: int | None, status: int) -> sa.Exists:
    """Return whether a recipient has a status, the one of the address if there is one."""
    column = recipients.c
    of_address = () if address is None else (column.address_hash == address,)
    return sa.exists().where(column.message == number, column.status == status, *of_address)


def _stored(connection: sa.Connection, numbers: Sequence[int]) -> Sequence[KeptMail]:
    """Return mails with all their recipients, the newest first; fewer if these are too many."""
    if not numbers:
        return []
    rows = {row.number: row for row in connection.execute(_MESSAGES, {"of": numbers})}
    of: Mapping[int, list[RecordedOutcome]] = defaultdict(list)
    room = {"of": numbers, "limit": MAX_PAGE_RECIPIENTS + MAX_RECIPIENTS}
    for number, *outcome in connection.execute(_RECIPIENTS, room):
        of[number].append(RecordedOutcome(*outcome))
    mails: list[KeptMail] = []
    count = 0
    for number in numbers:
        count += len(of[number])
        if count > MAX_PAGE_RECIPIENTS:
            break
        if number in rows:
            mails.append(KeptMail(MessageRow(*rows[number]), of[number]))
    return mails
