"""Claims in the database: one sender at a time for each recipient, each outcome kept."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import NamedTuple
from uuid import uuid4

import sqlalchemy as sa
import structlog

from services.sender.claims import (
    LEASE_MARGIN_SHARE,
    LEASE_SECONDS,
    Claim,
    Lease,
    RecipientsStopped,
    Stop,
    mail_key,
)
from services.sender.stops import StopChanges, StopTable
from services.sender.tables import ClaimChange, ClaimTable, OutcomeRow
from shared.batch import Batcher
from shared.contracts import Outcome, SendEmail
from shared.errors import Reject, Retry
from shared.runtime.sealing import AddressHasher
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase
from shared.storage.dialect import MILLISECONDS_PER_SECOND, Clock

RENEWALS_PER_LEASE = 3  # in a lease: so many may fail before a sender counts as dead
LATE_COMMAND_SECONDS = 86_400.0  # a command may be delivered again after its mail was given up
KEEP_SECONDS = 30.0  # then an outcome is better published without being kept than not published
LAST_WRITE_SECONDS = 5.0  # for the last write of a task that is being cancelled
# A mail may wait longer than this after its claim until it has a connection. Then a second look at
# what stops it comes right before MAIL, since another replica may have changed that. For each mail
# of a fast relay that would cost too much.
LOOK_AGAIN_SECONDS = 0.25
# Both go on while the process is stopped (SIGSTOP); the first also while the machine sleeps, as
# does the clock by which the database ends a lease. The loop's time stands still between two turns.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

logger = structlog.get_logger(__name__)


class _HeldClaim(NamedTuple):
    """A claim that is renewed, on `rows` recipients of a mail: 0 while it is made or ended."""

    email_id: str
    lease: Lease
    rows: int = 0


def steady() -> float:
    """Return the seconds of a clock that never jumps, and never stops with this process."""
    return time.clock_gettime(_STEADY)


class ClaimStore:
    """The claims of all senders; this object renews its own.

    A claim whose holder died is free again after `lease` seconds. `changes` are for the `StopStore`
    of the same process, which counts them.
    """

    def __init__(
        self,
        database: Database,
        hasher: AddressHasher,
        lease: float = LEASE_SECONDS,
        clock: Clock = dialect.now,
        steady: Callable[[], float] = steady,
    ) -> None:
        self._database = HandlerDatabase(database, "the claims")
        self._copied = HandlerDatabase(database, "the suppressed addresses")
        self._hasher = hasher
        self.changes = StopChanges()
        self._lease = round(lease * MILLISECONDS_PER_SECOND)
        self._safe_seconds = lease * (1 - LEASE_MARGIN_SHARE)
        self._clock = clock
        self._steady = steady
        self._table: ClaimTable | None = None
        self._stops: StopTable | None = None
        self._batcher = Batcher(self._change)
        self._looks = Batcher(self._look)
        self._name = uuid4().hex  # of this process among all senders
        self._numbers = count(1)
        self._held: dict[str, _HeldClaim] = {}  # by token

    async def claim(self, command: SendEmail) -> Claim:
        """Claim the free recipients of an attempt, in one transaction.

        In the same transaction it looks at what stops the mail for a recipient. Raises Retry when
        the database is away, Reject when it cannot hold a value of the command.
        """
        # Counted from before the database reads its clock: never too long.
        begun = self._steady()
        lease = Lease(begun + self._safe_seconds)
        token = f"{self._name}-{next(self._numbers)}"
        claim = Claim(
            mail_key(command),
            command.attempt,
            token,
            taken_at=begun,
            changes_seen=self.changes.ended,
            lease=lease,
        )
        self._held[token] = _HeldClaim(claim.email_id, lease)
        try:
            made = await self._batcher.add(ClaimChange(claim, command, command.recipients))
        except BaseException:
            await self.give_back(claim)
            raise
        if made.ours:
            self._held[token] = _HeldClaim(claim.email_id, lease, len(made.ours))
        else:
            self.abandon(claim)
        return made

    def holds(self, claim: Claim) -> bool:
        """Return whether no other sender can have taken a claim over until now.

        It asks no database: a renewal whose result is unknown counts as failed.
        """
        return self._steady() < claim.lease.until

    async def check_stops(
        self, claim: Claim, command: SendEmail, recipients: Sequence[str]
    ) -> None:
        """Raise RecipientsStopped if something stops the mail for a recipient by now.

        Without a change by this process since the claim it does not look for LOOK_AGAIN_SECONDS.
        Raises Retry when the database is away.
        """
        changed = self.changes.since(claim.changes_seen)
        if changed or self._steady() - claim.taken_at > LOOK_AGAIN_SECONDS:
            stops = await self._looks.add((command, recipients))
            if stops:
                raise RecipientsStopped(stops)

    async def settle(self, claim: Claim, events: Sequence[Outcome]) -> tuple[Outcome, ...]:
        """Keep the events of a claim, free the recipients without one; return the events kept.

        An event is not kept when another sender has taken its recipient over, or when there is a
        final outcome: the first one counts. A delivery is kept unless there is a final outcome,
        even if another sender has the claim. Raises Retry when the database is away, after at most
        KEEP_SECONDS.
        """
        rows = [OutcomeRow.of(claim, event) for event in events]
        change = ClaimChange(claim, keep=rows, free=len(rows) < len(claim.ours))
        if claim.token in self._held:
            self._held[claim.token] = _HeldClaim(claim.email_id, claim.lease)
        try:
            lost = (await self._batcher.add(change, KEEP_SECONDS)).busy
            return tuple(event for event in events if event.recipient not in lost)
        except TimeoutError as error:
            raise Retry("the claims do not answer") from error
        except asyncio.CancelledError:
            # Cancelled before its batch it is not kept, and no other process knows the outcome.
            # Kept twice it does no harm.
            await self._write_last(change)
            raise
        finally:
            self.abandon(claim)

    async def give_back(self, claim: Claim) -> None:
        """Free a claim of which nothing was sent; if that fails, its lease ends it."""
        self.abandon(claim)
        await self._write_last(ClaimChange(claim, free=True))

    def abandon(self, claim: Claim) -> None:
        """Renew a claim no more: the next sender learns that its mail may have been sent."""
        self._held.pop(claim.token, None)

    async def renew(self) -> None:
        """Renew the claims that are held, RENEWALS_PER_LEASE times a lease. Raises Retry.

        A claim that another sender has taken over is lost from then on, for all its recipients.
        """
        begun, held = self._steady(), dict(self._held)
        if not held:
            return
        mails = {token: each.email_id for token, each in held.items()}
        counts = await self._database.write(lambda c: self._in(c).renew(c, mails))
        lost = []
        for token, (_, lease, rows) in held.items():
            if not self._is_renewed(token):  # it has ended meanwhile: nobody has taken it over
                continue
            if rows and counts[token] == rows:
                lease.until = max(lease.until, begun + self._safe_seconds)
            elif counts[token] < rows:
                lost.append(lease)
        if any(lease.until > -math.inf for lease in lost):
            logger.warning("claims were taken over by another sender", count=len(lost))
        for lease in lost:
            lease.until = -math.inf

    def _is_renewed(self, token: str) -> bool:
        """Return whether a claim is held, and neither being made nor being ended."""
        return token in self._held and self._held[token].rows > 0

    async def purge(self, remember: float) -> int:
        """Delete the mails first claimed more than `remember` seconds ago; return the row count."""
        deleted = await self._database.write_all(lambda c: self._in(c).purge(c, remember))
        await self._database.empty_log()
        return deleted

    async def forget(self, email: str) -> int:
        """Delete the outcomes for an address that are not needed any more; return how many.

        A recent one answers a copy of its command, and is deleted by the purge. The claims are read
        in pieces, as they have no index by recipient: a new claim would pay for it.
        """
        total = 0
        after: str | None = ""
        while after is not None:
            found, after = await self._database.read(
                partial(self._find_piece, email=email, after=after)
            )
            if found:
                total += await self._database.write(partial(self._forget, found=found))
        await self._database.empty_log()
        return total

    def _find_piece(
        self, connection: sa.Connection, email: str, after: str
    ) -> tuple[Sequence[tuple[str, str]], str | None]:
        return self._in(connection).find_of_address(connection, email, after)

    def _forget(self, connection: sa.Connection, found: Sequence[tuple[str, str]]) -> int:
        return self._in(connection).forget(connection, found, LATE_COMMAND_SECONDS)

    async def _write_last(self, change: ClaimChange) -> None:
        """Write although the caller is being cancelled, for LAST_WRITE_SECONDS at most."""
        try:
            await self._batcher.add(change, LAST_WRITE_SECONDS)
        except (Retry, Reject, TimeoutError) as error:
            logger.warning("a claim could not be ended, it lapses", reason=str(error))

    async def _change(self, changes: Sequence[ClaimChange]) -> Sequence[Claim]:
        """Make changes: in one commit where there is one writer, else in two at the same time.

        Not in one transaction of many writers, which could wait for each other: one for a claim
        that the other has ended but not committed.
        """
        ends = [each for each in changes if each.keep or each.free]
        takes = [each for each in changes if each.take]
        claims = {each.claim.token: each.claim for each in changes}
        works: list[Callable[[sa.Connection], Sequence[Claim]]] = []
        if ends:
            works.append(lambda c: self._in(c).end(c, ends))
        if takes:
            works.append(lambda c: self._take(c, takes))
        done = await asyncio.gather(*map(self._database.write, works), return_exceptions=True)
        for changed in done:
            if isinstance(changed, BaseException):
                raise changed  # not before both have ended: they may be run again
            claims |= {claim.token: claim for claim in changed}
        return [claims[each.claim.token] for each in changes]

    def _take(self, connection: sa.Connection, changes: Sequence[ClaimChange]) -> Sequence[Claim]:
        table = self._stops_in(connection)
        table.lock_claims(connection, alone=False)
        made = self._in(connection).take(connection, changes)
        commands = {each.claim.token: each.command for each in changes if each.command}
        found = table.find(connection, [(commands[each.token], each.ours) for each in made])
        return [
            replace(claim, stops=stops) if stops else claim
            for claim, stops in zip(made, found, strict=True)
        ]

    async def _look(
        self, mails: Sequence[tuple[SendEmail, Sequence[str]]]
    ) -> Sequence[Mapping[str, Stop]]:
        return await self._copied.read(lambda c: self._stops_in(c).find(c, mails))

    def _stops_in(self, connection: sa.Connection) -> StopTable:
        if self._stops is None:
            self._stops = StopTable(connection, self._clock(connection), self._hasher)
        return self._stops

    def _in(self, connection: sa.Connection) -> ClaimTable:
        if self._table is None:
            self._table = ClaimTable(connection, self._clock(connection), self._lease)
        return self._table
