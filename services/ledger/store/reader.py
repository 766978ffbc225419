"""Reads of mails, which wait for no record that is being written.

A page is a range of an index, from the newest number down. What the index does not decide is looked
up for at most MAX_SCANNED mails: a page of a rare combination may have few mails, or none, and the
place where the next one goes on.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache, partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from services.ledger.answers import KeptMail, MessageRow
from services.ledger.mails import (
    CATEGORIES,
    STATUSES,
    RecordedOutcome,
    first_number,
    milliseconds,
)
from services.ledger.store.sql import (
    history,
    mail_keys,
    message_tags,
    messages,
    recipients,
)
from shared.contracts import EmailStatus, ListEmails
from shared.contracts.fields import MAX_RECIPIENTS
from shared.contracts.ledger import MAX_HISTORY, MAX_NAMED_CLIENTS
from shared.return_path import address_hash, first_key, mail_key
from shared.storage.database import Database, as_handler_errors

MAX_SCANNED = 2000  # mails of a page that are looked up for conditions beside its index
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
_SCHEDULES = sa.select(mail_keys.c.message, mail_keys.c.scheduled_at).where(
    mail_keys.c.key.in_(sa.bindparam("keys", expanding=True)),
    mail_keys.c.scheduled_at.is_not(None),
)
BY_KEY = (
    sa.select(mail_keys.c.message)
    .where(mail_keys.c.key.between(sa.bindparam("first"), sa.bindparam("last")))
    .where(mail_keys.c.message.is_not(None))
    .order_by(mail_keys.c.key)
    .limit(MAX_NAMED_CLIENTS)
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


class MailOwners(NamedTuple):
    """The clients that have a mail of one id, and whether the mail of another was forgotten."""

    clients: Sequence[str]
    forgotten: bool


class MailPage(NamedTuple):
    """Mails, the newest first, and the number that the next page goes on below, 0 at the end."""

    mails: Sequence[KeptMail]
    next: int


_Range = tuple[sa.Column[int], Sequence[sa.ColumnElement[bool]]]


class _Index(NamedTuple):
    """Ranges of an index that hold all mails of a list, and the conditions that are left."""

    ranges: Sequence[_Range]
    others: Sequence[Callable[[sa.ColumnElement[int]], sa.Exists]]


class _Statements(NamedTuple):
    """The statements of one page, and whether they look up what the index does not decide."""

    page: sa.Select[int]
    scan: sa.Select[int, Any]
    looks_up: bool


class MailReader:
    """Reads the mails of the ledger. Each method raises Retry when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, email_id: str, client: str | None) -> KeptMail | None:
        """Return the mail of a client; if None, that of the only client that has one."""
        with as_handler_errors("the ledger"):
            look = partial(_find, email_id=email_id, client=client)
            return await self._database.read_inline(look)

    async def owners(self, email_id: str, client: str | None) -> MailOwners:
        """Return the clients that have a mail of an id, of all or of one client."""
        with as_handler_errors("the ledger"):
            look = partial(_owners, email_id=email_id, client=client)
            return await self._database.read_inline(look)

    async def page(self, conditions: MailFilter, limit: int) -> MailPage:
        """Return the newest mails below `conditions.end`, at most `limit`."""
        with as_handler_errors("the ledger"):
            return await self._database.read(partial(_page, conditions=conditions, limit=limit))


def clients_of(connection: sa.Connection, column: sa.Column[str]) -> Sequence[str]:
    """Return the values of the first column of an index, each by one look-up in it."""
    first = sa.select(sa.func.min(column).label("client")).cte("clients", recursive=True)
    following = sa.select(sa.func.min(column)).where(column > first.c.client).scalar_subquery()
    found = first.union_all(sa.select(following).where(first.c.client.is_not(None)))
    query = sa.select(found.c.client).where(found.c.client.is_not(None))
    return connection.execute(query).scalars().all()


def _find(connection: sa.Connection, email_id: str, client: str | None) -> KeptMail | None:
    found = stored(connection, numbers_of(connection, email_id, client))
    if len(found) != 1:
        return None
    of = {"of": found[0].message.number}
    earlier = [RecordedOutcome(*row) for row in connection.execute(_EARLIER, of)]
    return found[0]._replace(earlier=earlier)


def _owners(connection: sa.Connection, email_id: str, client: str | None) -> MailOwners:
    numbers = numbers_of(connection, email_id, client)
    found = stored(connection, numbers)
    return MailOwners([each.message.client for each in found], len(found) < len(numbers))


def numbers_of(connection: sa.Connection, email_id: str, client: str | None) -> Sequence[int]:
    """Return the numbers of the mails of an id. A forgotten mail has one, and no row."""
    first = first_key(email_id) if client is None else mail_key(email_id, client)
    last = first + _KEY_END if client is None else first
    return connection.execute(BY_KEY, {"first": first, "last": last}).scalars().all()


def _page(connection: sa.Connection, conditions: MailFilter, limit: int) -> MailPage:
    if connection.dialect.name == "postgresql":
        # After five uses PostgreSQL makes one plan for all values of the parameters. It expects
        # few rows in any range of numbers, and reads and sorts all mails of a client.
        connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_custom_plan")
    numbers, following = _numbers(connection, conditions, limit)
    mails = stored(connection, numbers)
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
    shape = tuple(name for name, value in conditions._asdict().items() if value is not None)
    statements = _statements(shape, is_delivered=conditions.status == _DELIVERED)
    scanned = MAX_SCANNED if statements.looks_up else limit
    values = {**conditions._asdict(), "limit": limit, "scanned": scanned}
    numbers = connection.execute(statements.page, values).scalars().all()
    if len(numbers) == limit:
        return numbers, numbers[-1]
    if not statements.looks_up:
        return numbers, 0
    count, lowest = connection.execute(statements.scan, values).one()
    return numbers, lowest if count == scanned else 0


@lru_cache
def _statements(shape: tuple[str, ...], *, is_delivered: bool) -> _Statements:
    """Return the statements for the conditions that there are: making them takes milliseconds."""
    index = _index(frozenset(shape), is_delivered=is_delivered)
    candidates = _candidates(index)
    number = candidates.c.number
    page = sa.select(number).where(*(each(number) for each in index.others))
    return _Statements(
        page.order_by(number.desc()).limit(_number("limit")),
        sa.select(sa.func.count(), sa.func.min(number)).select_from(candidates),
        bool(index.others),
    )


def _number(name: str) -> sa.BindParameter[int]:
    return sa.bindparam(name, type_=sa.BigInteger)


def _text(name: str) -> sa.BindParameter[str]:
    return sa.bindparam(name, type_=sa.Text)


def _candidates(index: _Index) -> sa.Subquery:
    """Return the newest numbers in some ranges of an index, at most `scanned`."""
    parts = [
        sa.select(column.label("number"))
        .distinct()
        .where(column >= _number("first"), column < _number("end"), *where)
        .order_by(column.desc())
        .limit(_number("scanned"))
        .subquery()
        for column, where in index.ranges
    ]
    every = sa.union_all(*(sa.select(part.c.number) for part in parts)).subquery()
    newest = sa.select(every.c.number).order_by(every.c.number.desc()).limit(_number("scanned"))
    return newest.subquery("candidates")


def _index(given: AbstractSet[str], *, is_delivered: bool) -> _Index:
    """Return the index that leaves the fewest mails to look up: most mails are delivered."""
    by_address = "address_hash" in given
    left: Mapping[str, Callable[[sa.ColumnElement[int]], sa.Exists]] = {
        "status": partial(_has_status, by_address=by_address),
        "category": partial(_is_message, name="category"),
        "tag": _has_tag,
        "client": partial(_is_message, name="client"),
    }
    decided: AbstractSet[str] = set()
    ranges: Sequence[_Range]
    if by_address:
        ranges = [(recipients.c.message, [recipients.c.address_hash == _number("address_hash")])]
    elif "status" in given and not is_delivered:
        owner = recipients.c.client == _text("client")
        here = [owner, recipients.c.status == _number("status"), _NOT_DELIVERED]
        ranges, decided = [(recipients.c.message, here)], {"status", "client"}
    elif "tag" in given:
        here = [message_tags.c.client == _text("client"), message_tags.c.tag == _text("tag")]
        ranges, decided = [(message_tags.c.message, here)], {"tag", "client"}
    else:
        ranges, decided = _ranges_of_messages(given), {"category", "client"}
    return _Index(ranges, [left[name] for name in left if name in given and name not in decided])


def _ranges_of_messages(given: AbstractSet[str]) -> Sequence[_Range]:
    column = messages.c
    if "client" not in given:
        return [(column.number, [])]
    owner = column.client == _text("client")
    if "category" in given:
        return [(column.number, [owner, column.category == _number("category")])]
    return [(column.number, [owner, column.category == each]) for each in range(len(CATEGORIES))]


def _is_message(number: sa.ColumnElement[int], name: str) -> sa.Exists:
    value = sa.bindparam(name, type_=messages.c[name].type)
    return sa.exists().where(messages.c.number == number, messages.c[name] == value)


def _has_tag(number: sa.ColumnElement[int]) -> sa.Exists:
    owned = sa.and_(message_tags.c.client == messages.c.client, message_tags.c.message == number)
    return sa.exists().where(messages.c.number == number, owned, message_tags.c.tag == _text("tag"))


def _has_status(number: sa.ColumnElement[int], *, by_address: bool) -> sa.Exists:
    """Return whether a recipient has a status, the one of the address if there is one."""
    column = recipients.c
    of_address = (column.address_hash == _number("address_hash"),) if by_address else ()
    has_it = column.status == _number("status")
    return sa.exists().where(column.message == number, has_it, *of_address)


def stored(connection: sa.Connection, numbers: Sequence[int]) -> Sequence[KeptMail]:
    """Return mails with all their recipients, the newest first; fewer if these are too many."""
    if not numbers:
        return []
    rows = {row.number: row for row in connection.execute(_MESSAGES, {"of": numbers})}
    keys = [mail_key(row.email_id, row.client) for row in rows.values()]
    scheduled = dict(map(tuple, connection.execute(_SCHEDULES, {"keys": keys})))
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
            message = MessageRow(*rows[number])
            mails.append(KeptMail(message, of[number], scheduled_at=scheduled.get(number)))
    return mails
