"""Challenges in the database: one alive for each scope, guesses counted, used up once."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import sqlalchemy as sa

from services.otp import guessing, issuing, sql
from services.otp.codes import MAX_CLOCK_STEP_MS, CodePolicy
from services.otp.guessing import FAILURE_WINDOW_MS, CodeUse, Guess, GuessDecision
from services.otp.issuing import IssueRequest, IssueResult
from services.otp.limits import DAY_MS, HOUR_MS, MINUTE_MS, recipient_subject
from services.otp.sql import (
    OtpTransaction,
    challenges,
    commands,
    compared,
    failures,
    guesses,
    mails,
    standing,
)
from shared.batch import Batcher
from shared.runtime.sealing import fold
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import Clock, Prepared

PURGE_ROWS = 1000  # a transaction: codes wait for no longer than such a piece takes
# An ended challenge still answers repeated requests: a command may come back for 14 hours
# (shared.retry). With the purge's own interval it is gone within a day.
KEEP_MS = 20 * HOUR_MS
# A guess that was compared with no code counts for nothing; it answers repeated requests.
KEEP_UNSEEN_MS = HOUR_MS

_NOW = sa.bindparam("now", type_=sa.BigInteger)
_BEFORE = sa.bindparam("before", type_=sa.BigInteger)
_EXPIRED = sa.select(challenges.c.id).where(
    standing,
    sa.or_(challenges.c.created_at > _NOW + MAX_CLOCK_STEP_MS, challenges.c.expires_at <= _NOW),
)
# A challenge that has once ended is not revived by a clock put back. A row that another transaction
# has locked can wait, and must: that transaction may be waiting for a row of this one.
_EXPIRE = (
    sa.update(challenges)
    .values(died_at=_NOW)
    .where(
        standing,
        challenges.c.id.in_(_EXPIRED.limit(PURGE_ROWS).with_for_update(skip_locked=True)),
    )
)

T = TypeVar("T")


class _Old(NamedTuple):
    """Rows that may be deleted when their time is `age_ms` ago; `unit_ms` is that of the time."""

    time: sa.Column[int]
    age_ms: int
    which: sa.ColumnElement[bool] = sa.true()
    unit_ms: int = 1


_OLD = (
    _Old(challenges.c.died_at, KEEP_MS),
    _Old(commands.c.at, KEEP_MS),
    _Old(guesses.c.at, KEEP_UNSEEN_MS, sa.not_(compared)),
    _Old(guesses.c.at, FAILURE_WINDOW_MS),
    _Old(mails.c.minute, DAY_MS + MINUTE_MS, unit_ms=MINUTE_MS),
    _Old(failures.c.hour, FAILURE_WINDOW_MS + HOUR_MS, unit_ms=HOUR_MS),
)


class ChallengeStore:
    """The challenges of this deployment.

    Requests that come at the same time share one transaction. Every method raises Retry when the
    database is away, and Reject when it cannot hold a value.
    """

    def __init__(self, database: Database, policy: CodePolicy, clock: Clock = dialect.now) -> None:
        self._database = HandlerDatabase(database, "the codes")
        self._policy = policy
        self._clock = clock
        self._time: Prepared | None = None
        self._requests = Batcher(self._answer)
        self._guesses = Batcher(self._record)
        self._uses = Batcher(self._use)

    async def issue(self, request: IssueRequest) -> IssueResult:
        """Answer a request with a challenge to be mailed, or with a refusal.

        The same request has the same answer again, even if its challenge has ended.
        """
        return await self._requests.add(request)

    async def guess(self, guess: Guess) -> GuessDecision:
        """Count a guess; return the decision on it, with the challenge to compare it with.

        The count is committed before the comparison, so that no crash gives a guess back. A guess
        that was counted before has its first decision again; a guess past a limit is not counted.
        """
        return await self._guesses.add(guess)

    async def use(self, use: CodeUse) -> bool:
        """Use a challenge up; return whether this guess did, the same however often it asks."""
        return await self._uses.add(use)

    async def cancel(self, challenge_id: str, client: str) -> None:
        """End a challenge of this client, if there is one."""
        await self._write(lambda tx: tx.execute(sql.CANCEL_CHALLENGE, tx.now, challenge_id, client))

    async def forget(self, email: str) -> None:
        """Delete the challenges of an address, with their commands, its guesses and its counts."""
        recipient = fold(email)
        await self._write(partial(_forget, recipient=recipient))
        await self._database.empty_log()

    async def purge(self) -> int:
        """End what has expired, delete what ended long ago, and return the number of rows deleted.

        Works in pieces of PURGE_ROWS, a transaction each.
        """
        await self._write_all(lambda tx: tx.change(_EXPIRE, now=tx.now))
        deleted = sum([await self._write_all(partial(_delete_old, which=each)) for each in _OLD])
        await self._database.empty_log()
        return deleted

    async def _write_all(self, work: Callable[[OtpTransaction], int]) -> int:
        return await self._database.write_all(lambda connection: work(self._begin(connection)))

    async def _answer(self, requests: Sequence[IssueRequest]) -> Sequence[IssueResult]:
        return await self._write(lambda tx: issuing.answer(tx, self._policy, requests))

    async def _record(self, guesses: Sequence[Guess]) -> Sequence[GuessDecision]:
        return await self._write(lambda tx: guessing.record(tx, self._policy, guesses))

    async def _use(self, uses: Sequence[CodeUse]) -> Sequence[bool]:
        winners = await self._write(lambda tx: guessing.use(tx, uses))
        return [use.guess.id in winners for use in uses]

    async def _write(self, work: Callable[[OtpTransaction], T]) -> T:
        return await self._database.write(lambda connection: work(self._begin(connection)))

    def _begin(self, connection: sa.Connection) -> OtpTransaction:
        if self._time is None:
            self._time = Prepared(connection, sa.select(self._clock(connection)))
        return OtpTransaction(connection, self._time)


def _forget(tx: OtpTransaction, recipient: str) -> None:
    tx.lock([recipient])
    for column, value in (
        (challenges.c.recipient, recipient),
        (guesses.c.recipient, recipient),
        (mails.c.subject, recipient_subject(recipient)),
    ):
        tx.change(sa.delete(column.table).where(column == value))


def _delete_old(tx: OtpTransaction, which: _Old) -> int:
    key = tuple(which.time.table.primary_key)
    old = sa.select(*key).where(which.time < _BEFORE, which.which).limit(PURGE_ROWS)
    delete = sa.delete(which.time.table).where(sa.tuple_(*key).in_(old))
    return tx.change(delete, before=-(-(tx.now - which.age_ms) // which.unit_ms))
