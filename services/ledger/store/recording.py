"""Recording commands and outcomes: a batch in one transaction, each once, in any order."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial

import orjson
import sqlalchemy as sa

from services.ledger.changes import KnownMail, MailChanges, Place, Row
from services.ledger.mails import (
    NUMBER_BITS,
    Acceptance,
    EarlyOutcome,
    RecordedOutcome,
    Rescheduling,
    accepted_at,
    first_number,
)
from services.ledger.store import sql
from services.ledger.store.forgetting import ForgottenAddresses
from shared.batch import Batcher
from shared.runtime.sealing import AddressHasher
from shared.storage import dialect
from shared.storage.database import Database, as_handler_errors
from shared.storage.dialect import Clock

BATCH_SECONDS = 0.02  # that a record waits for others: a transaction costs as much as many of them

MailRecord = Acceptance | EarlyOutcome | Rescheduling


class MailStore:
    """The database that mails are recorded in.

    `salt` differs between processes: two of them do not number mails of one millisecond alike.
    `hasher` hashes the addresses that were forgotten.
    """

    def __init__(
        self, database: Database, salt: int, hasher: AddressHasher, clock: Clock = dialect.now
    ) -> None:
        self._database = database
        self._hasher = hasher
        self._clock = clock
        self._places = itertools.count(salt)
        self._batcher = Batcher(self.record_all, wait_seconds=BATCH_SECONDS)

    async def record(self, record: MailRecord) -> None:
        """Record a command, an outcome or another time, once.

        Raises Retry when the database is away, Reject when it cannot hold a value.
        """
        await self._batcher.add(record)

    async def record_all(self, records: Sequence[MailRecord]) -> Sequence[None]:
        """Record commands and outcomes in one transaction. Raises as `record`, if any does."""
        with as_handler_errors("the ledger"):
            await self._database.write(partial(self._record, records=records))
        return [None] * len(records)

    def _record(self, connection: sa.Connection, records: Sequence[MailRecord]) -> None:
        now: int = connection.execute(sa.select(self._clock(connection))).scalar_one()
        forgotten = ForgottenAddresses.read(connection, self._hasher)
        RecordingTransaction(connection, now, self._places, forgotten).record(records)


class RecordingTransaction:
    """Records in the transaction of one connection.

    It first locks the mails by their keys, in order, and no other transaction changes them before
    it commits. Then it reads what is known of them, decides, and writes. The sums come last, in
    order, as all transactions write some of the same rows.
    """

    def __init__(
        self,
        connection: sa.Connection,
        now: int,
        places: Iterator[int],
        forgotten: ForgottenAddresses,
    ) -> None:
        self._connection = connection
        self._now = now
        self._places = places
        self._forgotten = forgotten
        self._accepted: dict[bytes, list[Acceptance]] = defaultdict(list)
        self._outcomes: dict[bytes, list[RecordedOutcome]] = defaultdict(list)
        self._schedules: dict[bytes, Rescheduling] = {}

    def record(self, records: Sequence[MailRecord]) -> None:
        """Record commands, outcomes and other times."""
        self._sort(records)
        numbers, new = self._lock()
        self._keep_schedules(numbers)
        mails = self._mails(numbers, new)
        changes = MailChanges(self._recipients(mails, new))
        gone: list[Row] = []
        for key, mail in mails.items():
            accepted = self._accepted.get(key, [])
            known = self._known(mail, accepted[0]) if key in new else ()
            if key in new and not known:
                gone.append((key,))  # to forgotten people alone
                continue
            if key in new:
                changes.accept(mail, accepted[0], known)
            for outcome in self._outcomes.get(key, []):
                if not self._is_forgotten(mail, outcome.recipient):
                    changes.apply(mail, outcome)
            for facts in accepted:
                changes.expect(mail, self._known(mail, facts))
        sql.write(self._connection, sql.KEEP_FORGOTTEN_KEYS, gone, (self._now,))
        self._write(changes)

    def _known(self, mail: KnownMail, facts: Acceptance) -> Sequence[str]:
        """Return the recipients of a command that were not forgotten since its acceptance."""
        return [each for each in facts.recipients if not self._is_forgotten(mail, each)]

    def _is_forgotten(self, mail: KnownMail, recipient: str) -> bool:
        return self._forgotten.covers(recipient, accepted_at(mail.number))

    def _sort(self, records: Sequence[MailRecord]) -> None:
        for each in records:
            if isinstance(each, EarlyOutcome):
                self._outcomes[each.key].append(each.outcome)
            elif isinstance(each, Rescheduling):
                self._schedule(each)
            else:
                self._accepted[each.key].append(each)
                if each.scheduled_at is not None:
                    self._schedule(Rescheduling(each.key, each.scheduled_at, 0))

    def _schedule(self, new: Rescheduling) -> None:
        known = self._schedules.get(new.key)
        if known is None or known.set_at <= new.set_at:
            self._schedules[new.key] = new

    def _lock(self) -> tuple[Mapping[bytes, int], AbstractSet[bytes]]:
        """Lock all mails; return the numbers of those with a command, and the keys of new ones."""
        keys = sorted({*self._accepted, *self._outcomes, *self._schedules})
        given = {key: self._number(facts[0]) for key, facts in self._accepted.items()}
        sql.write(self._connection, sql.KEEP_KEYS, [(key, given.get(key)) for key in keys])
        found = dict(zip(keys, sql.lock_keys(self._connection, keys), strict=True))
        unnamed = [key for key in keys if found[key] is None]
        if named := [(key, given[key]) for key in unnamed if key in given]:
            sql.write(self._connection, sql.NAME_KEYS, named)
            found.update(named)
            self._settle_early([key for key, _ in named])
        self._keep_early([key for key in unnamed if key not in given])
        numbers = {key: number for key, number in found.items() if number is not None}
        return numbers, {key for key, number in given.items() if numbers[key] == number}

    def _number(self, facts: Acceptance) -> int:
        """Return the number of a new mail. A time of acceptance that is to come is none."""
        at = self._now if facts.accepted_at is None else min(facts.accepted_at, self._now)
        return first_number(at) + next(self._places) % (1 << NUMBER_BITS)

    def _settle_early(self, keys: Sequence[bytes]) -> None:
        """Add the outcomes that came before the commands of these mails."""
        rows = [(key, place) for place, key in enumerate(keys)]
        for place, *outcome in sql.find(self._connection, sql.FIND_EARLY, rows):
            self._outcomes[keys[place]].append(RecordedOutcome(*outcome))
        sql.write(self._connection, sql.FORGET_EARLY, [(key,) for key in keys])

    def _keep_early(self, keys: Sequence[bytes]) -> None:
        """Keep the outcomes of mails whose command has not come yet."""
        first: dict[tuple[object, ...], Row] = {}
        for key in keys:
            for outcome in sorted(self._outcomes.pop(key, []), key=lambda each: each.at):
                first.setdefault((key, *outcome[:3]), (key, *outcome))
        rows = [first[place] for place in sorted(first)]
        sql.write(self._connection, sql.KEEP_EARLY, rows, (self._now,))

    def _keep_schedules(self, numbers: Mapping[bytes, int]) -> None:
        """Keep the times of mails for later, also of those whose command has not come yet."""
        sql.write(self._connection, sql.KEEP_SCHEDULES, [*self._schedules.values()])
        early = sorted((key,) for key in self._schedules if key not in numbers)
        sql.write(self._connection, sql.KEEP_FORGOTTEN_KEYS, early, (self._now,))

    def _mails(
        self, numbers: Mapping[bytes, int], new: AbstractSet[bytes]
    ) -> Mapping[bytes, KnownMail]:
        """Return the facts of all mails with a command, except those that were forgotten."""
        rows = [(number,) for key, number in numbers.items() if key not in new]
        known = {
            number: KnownMail(number, client, category, orjson.loads(tags or "{}"))
            for number, client, category, tags in sql.find(
                self._connection, sql.FIND_MESSAGES, rows
            )
        }
        for key in new:
            facts = self._accepted[key][0]
            mail = KnownMail(numbers[key], facts.client, facts.category, facts.tags)
            known[mail.number] = mail
        return {key: known[number] for key, number in numbers.items() if number in known}

    def _recipients(
        self, mails: Mapping[bytes, KnownMail], new: AbstractSet[bytes]
    ) -> Mapping[Place, RecordedOutcome]:
        """Return the present outcomes of those recipients of known mails that the records name."""
        places = {
            (mail.number, recipient)
            for key, mail in mails.items()
            if key not in new
            for recipient in self._named(key)
        }
        found = sql.find(self._connection, sql.FIND_RECIPIENTS, sorted(places))
        return {(number, outcome[0]): RecordedOutcome(*outcome) for number, *outcome in found}

    def _named(self, key: bytes) -> Iterator[str]:
        for facts in self._accepted.get(key, []):
            yield from facts.recipients
        for outcome in self._outcomes.get(key, []):
            yield outcome.recipient

    def _write(self, changes: MailChanges) -> None:
        for text, rows in (
            (sql.KEEP_MESSAGES, changes.messages),
            (sql.KEEP_TAGS, changes.tags),
            (sql.KEEP_MESSAGE_IDS, changes.message_ids),
            (sql.KEEP_RECIPIENTS, changes.recipients),
            (sql.KEEP_HISTORY, changes.history),
            (sql.ADD_TOTALS, changes.totals),
        ):
            sql.write(self._connection, text, rows)
