"""Forgetting a person: all mails to an address, and what comes late about them."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import orjson
import sqlalchemy as sa

from services.ledger.changes import COUNTS, Row
from services.ledger.mails import (
    DAY_MILLISECONDS,
    FORGOTTEN,
    HOUR_MILLISECONDS,
    accepted_at,
    count_name,
    slices,
)
from services.ledger.store import sql
from services.ledger.store.sql import (
    early_outcomes,
    forgotten,
    history,
    message_ids,
    messages,
    recipients,
)
from shared.contracts import EmailStatus
from shared.return_path import address_hash, mail_key
from shared.runtime.sealing import AddressHasher, fold
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import Clock

FORGET_MAILS = 200  # a transaction: no record waits long for it
# The number of the lock between records and forgetting, among the advisory locks of a database.
_LOCK = 0x6C656467_65720001


class ForgottenAddresses:
    """The addresses that were forgotten, as keyed hashes, with the times of that.

    They are few, so all of them are read for each batch of records.
    """

    def __init__(self, hasher: AddressHasher, times: Mapping[str, int]) -> None:
        self._hasher = hasher
        self._times = times

    @classmethod
    def read(cls, connection: sa.Connection, hasher: AddressHasher) -> "ForgottenAddresses":
        """Read them in a transaction that records; no forgetting begins until it has committed.

        Without that lock the transaction could record a person whose rows were deleted meanwhile.
        """
        dialect.lock(connection, _LOCK, alone=False)
        rows = connection.execute(sa.select(forgotten.c.address_key, forgotten.c.at))
        return cls(hasher, {row.address_key: row.at for row in rows})

    def covers(self, recipient: str, accepted: int) -> bool:
        """Return whether a recipient was forgotten after its mail was accepted."""
        return bool(self._times) and accepted <= self._times.get(self._hasher.hash(recipient), -1)


class AddressForgetter:
    """Deletes a person from the ledger. Every method raises Retry when the database is away."""

    def __init__(
        self, database: Database, hasher: AddressHasher, clock: Clock = dialect.now
    ) -> None:
        self._database = HandlerDatabase(database, "the ledger")
        self._hasher = hasher
        self._clock = clock

    async def forget(self, email: str) -> int:
        """Delete the mails to an address and their outcomes; return how many there were.

        Of a mail with other recipients only this one is deleted. Sums stay, without the mails that
        are still under way; how many of them were forgotten is counted by hour and status. A late
        outcome of a mail from before is not recorded: the hash of the address and the keys of the
        mails are kept for that, as long as mails are.
        """
        at = await self._database.write(partial(self._remember, email=email))
        deleted = await self._database.write_all(partial(_forget_some, email=email, at=at))
        await self._database.write(partial(_forget_early, email=email, at=at))
        await self._database.empty_log()
        return deleted

    async def purge(self, days: int) -> None:
        """Delete the hashes that are older than the oldest mail."""
        await self._database.write(partial(self._purge, days=days))

    def _remember(self, connection: sa.Connection, email: str) -> int:
        """Keep the hash of the address; return the time from which on it is forgotten."""
        dialect.lock(connection, _LOCK, alone=True)
        at = self._now(connection)
        row = dialect.insert(connection, forgotten).values(
            address_key=self._hasher.hash(email), at=at
        )
        connection.execute(
            row.on_conflict_do_update(index_elements=["address_key"], set_={"at": row.excluded.at})
        )
        return at

    def _purge(self, connection: sa.Connection, days: int) -> None:
        limit = self._now(connection) - days * DAY_MILLISECONDS
        connection.execute(sa.delete(forgotten).where(forgotten.c.at < limit))

    def _now(self, connection: sa.Connection) -> int:
        return dialect.read_now(connection, self._clock)


def _forget_some(connection: sa.Connection, email: str, at: int) -> int:
    """Delete the recipient from some mails; return the number of its rows."""
    found = [row for row in _rows(connection, email) if fold(row.recipient) == fold(email)]
    if not found:
        return 0
    # The keys first, as when mails are recorded. They stay, so that late outcomes find no mail.
    sql.lock_keys(connection, sorted({mail_key(row.email_id, row.client) for row in found}))
    mails = {row.message: row for row in found}
    for table in (recipients, history):
        place = sa.tuple_(table.c.message, table.c.recipient)
        places = [(row.message, row.recipient) for row in found]
        connection.execute(sa.delete(table).where(place.in_(places)))
    of_address = message_ids.c.address_hash == address_hash(email)
    connection.execute(
        sa.delete(message_ids).where(message_ids.c.message.in_([*mails]), of_address)
    )
    sql.write(connection, sql.ADD_TOTALS, _sums(found))
    left = sa.select(recipients.c.message).where(recipients.c.message.in_([*mails]))
    others = {*connection.execute(left).scalars()}
    _forget_mails(connection, [row for number, row in mails.items() if number not in others], at)
    return len(found)


def _rows(connection: sa.Connection, email: str) -> Sequence[Any]:
    """Return rows of recipients that have the hash of the address, with their mails."""
    columns = (recipients.c[name] for name in ("message", "recipient", "status", "detail"))
    mail = (messages.c.email_id, messages.c.client, messages.c.category, messages.c.tags)
    look = (
        sa.select(*columns, *mail)
        .join(messages, messages.c.number == recipients.c.message)
        .where(recipients.c.address_hash == address_hash(email))
        .limit(FORGET_MAILS)
    )
    return connection.execute(look).all()


def _sums(rows: Sequence[Any]) -> Sequence[Row]:
    """Return the differences of the sums: waiting recipients leave them, others are forgotten."""
    sums: defaultdict[tuple[str, str, str, int, int], Counter[str]] = defaultdict(Counter)
    for row in rows:
        hour, name = accepted_at(row.message) // HOUR_MILLISECONDS, count_name(row)
        if name == EmailStatus.WAITING:
            for dimension, value in slices(orjson.loads(row.tags or "{}"), row.recipient):
                sums[row.client, dimension, value, hour, row.category][name] -= 1
        else:
            sums[row.client, FORGOTTEN, "", hour, row.category][name] += 1
    return [(*key, *(counts[name] for name in COUNTS)) for key, counts in sorted(sums.items())]


def _forget_mails(connection: sa.Connection, rows: Sequence[Any], at: int) -> None:
    """Delete mails that have no recipient any more, with subject, tags and metadata."""
    if not rows:
        return
    keys = sorted((mail_key(row.email_id, row.client),) for row in rows)
    sql.write(connection, sql.KEEP_FORGOTTEN_KEYS, keys, (at,))
    sql.forget_tags(connection, ((row.message, row.client, row.tags) for row in rows))
    numbers = [row.message for row in rows]
    connection.execute(sa.delete(messages).where(messages.c.number.in_(numbers)))


def _forget_early(connection: sa.Connection, email: str, at: int) -> None:
    """Delete outcomes whose command has not come; there are few."""
    names = {*connection.execute(sa.select(early_outcomes.c.recipient).distinct()).scalars()}
    same = [name for name in names if fold(name) == fold(email)]
    gone = early_outcomes.c.recipient.in_(same)
    keys = connection.execute(sa.select(early_outcomes.c.key).where(gone).distinct()).all()
    sql.write(connection, sql.KEEP_FORGOTTEN_KEYS, sorted(map(tuple, keys)), (at,))
    connection.execute(sa.delete(early_outcomes).where(gone))
