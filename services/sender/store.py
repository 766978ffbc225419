"""Claims in the database: one sender at a time for each recipient, each outcome kept."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar, cast
from uuid import uuid4

import sqlalchemy as sa
import structlog

from services.sender.claim import LEASE_MARGIN, LEASE_SECONDS, Claim, Lease, mail_key
from services.sender.tables import ClaimStatements, Found
from shared import contracts
from shared.batch import Batcher
from shared.contracts import Outcome, SendEmail
from shared.errors import Reject, Retry
from shared.storage import dialect
from shared.storage.database import Database, as_handler_errors
from shared.storage.dialect import MILLISECONDS, Clock, chunks

RENEWALS = 3  # in a lease: so many may be missed before a sender counts as dead
KEEP_SECONDS = 30.0  # then an outcome is better told without being kept than not told
PARTING_SECONDS = 5.0  # for the last write of a task that is being cancelled
MAILS_AT_ONCE = 500  # in one list of a statement: SQLite may be built for no more than 999
# Both go on while the process is stopped (SIGSTOP); the first also while the machine sleeps, as
# does the clock by which the database ends a lease. The loop's time stands still between two turns.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

Row = tuple[str, str, str, int, bool, str, str]  # what `ClaimStatements.settling` takes

_place: Callable[[Row], tuple[str, str]] = itemgetter(0, 1)

T = TypeVar("T")

logger = structlog.get_logger(__name__)


class _ClaimChange(NamedTuple):
    """What is to be done for a claim: recipients to take, outcomes to keep, the rest to free."""

    claim: Claim
    take: Sequence[str] = ()
    keep: Sequence[Row] = ()
    free: bool = False


class _HeldClaim(NamedTuple):
    """A claim that is renewed: `rows` recipients of a mail, none while it is being made."""

    email_id: str
    lease: Lease
    rows: int = 0


def steady() -> float:
    """Return the seconds of a clock that never jumps, and never stops with this process."""
    return time.clock_gettime(_STEADY)


class ClaimStore:
    """The claims of all senders; this object renews those that were made by it.

    A claim whose holder died is free again after `lease` seconds.
    """

    def __init__(
        self,
        database: Database,
        lease: float = LEASE_SECONDS,
        clock: Clock = dialect.now,
        steady: Callable[[], float] = steady,
    ) -> None:
        self._database = database
        self._lease = round(lease * MILLISECONDS)
        self._safe = lease * (1 - LEASE_MARGIN)  # seconds
        self._clock = clock
        self._steady = steady
        self._words: dict[str, ClaimStatements] = {}  # by dialect
        self._batch = Batcher(self._fulfil)
        self._name = uuid4().hex  # of this process among all senders
        self._numbers = count(1)
        self._held: dict[str, _HeldClaim] = {}  # by token

    async def claim(self, command: SendEmail) -> Claim:
        """Claim the recipients of an attempt that are free, in one transaction.

        Raises Retry when the database is away, Reject when it cannot hold what the command says.
        """
        # Counted from before the database's own look at its clock: never too long.
        lease = Lease(self._steady() + self._safe)
        token = f"{self._name}-{next(self._numbers)}"
        claim = Claim(mail_key(command), command.attempt, token, lease=lease)
        self._held[token] = _HeldClaim(claim.email_id, lease)
        try:
            made = await self._batch.add(_ClaimChange(claim, take=command.recipients))
        except BaseException:
            await self.give_back(claim)
            raise
        if made.ours:
            self._held[token] = _HeldClaim(claim.email_id, lease, len(made.ours))
        else:
            self.abandon(claim)
        return made

    def holds(self, claim: Claim) -> bool:
        """Return whether nobody else can have taken a claim over until now.

        It asks no database: a renewal that did not come through is as good as none.
        """
        return self._steady() < claim.lease.until

    async def settle(self, claim: Claim, events: Sequence[Outcome]) -> tuple[Outcome, ...]:
        """Keep the events of a claim, give back recipients without one; return the events kept.

        An event is not kept when another sender has taken its recipient over, or when a final
        outcome is there: the first one counts. A delivery is kept as long as none is there, whoever
        has the claim by now. Raises Retry when the database is away, after at most KEEP_SECONDS.
        """
        rows = [_kept(claim, event) for event in events]
        wish = _ClaimChange(claim, keep=rows, free=len(rows) < len(claim.ours))
        try:
            lost = (await self._batch.add(wish, KEEP_SECONDS)).busy
            return tuple(event for event in events if event.recipient not in lost)
        except TimeoutError as error:
            raise Retry("the claims do not answer") from error
        except asyncio.CancelledError:
            # Cancelled before its turn it was not kept, and nobody else knows what it knows.
            # Kept twice it does no harm.
            await self._insist(wish)
            raise
        finally:
            self.abandon(claim)

    async def give_back(self, claim: Claim) -> None:
        """Let go of a claim with which nothing was done; what cannot be given back lapses."""
        self.abandon(claim)
        await self._insist(_ClaimChange(claim, free=True))

    def abandon(self, claim: Claim) -> None:
        """Renew a claim no more: who takes it over will know that it may have been used."""
        self._held.pop(claim.token, None)

    async def renew(self) -> None:
        """Renew the claims that are held, RENEWALS times a lease. Raises Retry.

        A claim that another sender has taken over is lost from then on, whole.
        """
        begun, held = self._steady(), dict(self._held)
        if not held:
            return
        counts = await self._write(lambda c: _renew(c, self._in(c), held))
        lost = [each.lease for token, each in held.items() if counts[token] < each.rows]
        for token, (_, lease, rows) in held.items():
            if rows and counts[token] == rows:
                lease.until = max(lease.until, begun + self._safe)
        if any(lease.until > -math.inf for lease in lost):
            logger.warning("claims were taken over by another sender", count=len(lost))
        for lease in lost:
            lease.until = -math.inf

    async def purge(self, remember: float) -> int:
        """Forget the mails first claimed more than `remember` seconds ago; tell how many rows."""
        forgotten = 0
        while deleted := await self._write(
            lambda c: c.execute(self._in(c).forgetting(remember)).rowcount
        ):
            forgotten += deleted
        return forgotten

    async def _insist(self, wish: _ClaimChange) -> None:
        """Write although the caller is being cancelled, but not for long."""
        try:
            await self._batch.add(wish, PARTING_SECONDS)
        except (Retry, Reject, TimeoutError) as error:
            logger.warning("a claim could not be ended, it lapses", reason=str(error))

    async def _fulfil(self, wishes: Sequence[_ClaimChange]) -> Sequence[Claim]:
        """Fulfil wishes: in one commit where there is one writer, else in two at the same time.

        Not in one transaction of many writers, which could wait for each other: one for a claim
        that the other has ended but not committed.
        """
        ends = [wish for wish in wishes if wish.keep or wish.free]
        takes = [wish for wish in wishes if wish.take]
        claims = {wish.claim.token: wish.claim for wish in wishes}

        def end(connection: sa.Connection) -> Sequence[Claim]:
            return _end(connection, self._in(connection), ends)

        def take(connection: sa.Connection) -> Sequence[Claim]:
            return _take(connection, self._in(connection), takes)

        works = [end] * bool(ends) + [take] * bool(takes)
        done = await asyncio.gather(*map(self._write, works), return_exceptions=True)
        for changed in done:
            if isinstance(changed, BaseException):
                raise changed  # not before both have ended: they may be done again
            claims |= {claim.token: claim for claim in changed}
        return [claims[wish.claim.token] for wish in wishes]

    async def _write(self, work: Callable[[sa.Connection], T]) -> T:
        with as_handler_errors("the claims"):
            return await self._database.write(work)

    def _in(self, connection: sa.Connection) -> ClaimStatements:
        """Give the statements in the words of this database."""
        name = connection.dialect.name
        if name not in self._words:
            self._words[name] = ClaimStatements(connection, self._clock(connection), self._lease)
        return self._words[name]


def _renew(
    connection: sa.Connection, say: ClaimStatements, held: Mapping[str, _HeldClaim]
) -> Counter[str]:
    """Renew claims; return for how many recipients each of them is held."""
    rows = [{"of_email": each.email_id, "of_token": token} for token, each in held.items()]
    connection.execute(say.renewing, rows)
    mails = list({each.email_id for each in held.values()})
    counts: Counter[str] = Counter()
    for start in range(0, len(mails), MAILS_AT_ONCE):
        some = {"of_emails": mails[start : start + MAILS_AT_ONCE]}
        counts.update(connection.execute(say.holding, some).scalars())
    return counts


def _end(
    connection: sa.Connection, say: ClaimStatements, wishes: Sequence[_ClaimChange]
) -> Sequence[Claim]:
    """Keep outcomes and free the rest of claims; `busy` are then the recipients that were lost."""
    kept = sorted((row for wish in wishes for row in wish.keep), key=_place)
    lost: set[Row] = set()
    while kept:
        # A statement must not come to one row twice.
        once: dict[tuple[str, str], Row] = {}
        kept = [row for row in kept if once.setdefault(_place(row), row) is not row]
        rows = list(once.values())
        for some in chunks(rows):
            if say.settling.run(connection, some).rowcount < len(some):
                lost |= _not_kept(connection, say, some)
    if freed := [_whose(wish.claim) for wish in wishes if wish.free]:
        connection.execute(say.giving_back, freed)
    return [
        replace(wish.claim, busy=tuple(row[1] for row in wish.keep if row in lost))
        for wish in wishes
        if not lost.isdisjoint(wish.keep)
    ]


def _not_kept(connection: sa.Connection, say: ClaimStatements, rows: Sequence[Row]) -> set[Row]:
    """Return the rows whose outcome differs from the one in the database."""
    mails = list({row[0] for row in rows})
    found = connection.execute(say.looking, {"of_emails": mails}).all()
    known = {(row.email_id, row.recipient): (row.settled, row.event) for row in found}
    return {row for row in rows if known.get(_place(row)) != (row[3], row[6])}


def _take(
    connection: sa.Connection, say: ClaimStatements, wishes: Sequence[_ClaimChange]
) -> Sequence[Claim]:
    """Take what is free, then look what has been taken and what is known of the rest."""
    new = [wish for wish in wishes if wish.claim.attempt == 1]
    if new and _all_made(connection, say, new):
        old = [wish for wish in wishes if wish.claim.attempt > 1]
        made = [replace(wish.claim, fresh=tuple(wish.take)) for wish in new]
        return [*made, *(_taken(connection, say, old) if old else ())]
    return _taken(connection, say, wishes)


def _all_made(
    connection: sa.Connection, say: ClaimStatements, wishes: Sequence[_ClaimChange]
) -> bool:
    """Take mails that are not known yet; tell whether that were all."""
    rows = sorted(
        (wish.claim.email_id, recipient, wish.claim.attempt, wish.claim.token)
        for wish in wishes
        for recipient in wish.take
    )
    return sum(say.making.run(connection, some).rowcount for some in chunks(rows)) == len(rows)


def _taken(
    connection: sa.Connection, say: ClaimStatements, wishes: Sequence[_ClaimChange]
) -> Sequence[Claim]:
    rows = [
        {**_whose(wish.claim), "of_recipient": recipient, "new_attempt": wish.claim.attempt}
        for wish in wishes
        for recipient in wish.take
    ]
    # In one order at all senders, or two that take the same at once could wait for each other.
    rows.sort(key=itemgetter("of_email", "of_recipient"))
    connection.execute(say.taking, rows)
    mails = list({wish.claim.email_id for wish in wishes})
    found = connection.execute(say.looking, {"of_emails": mails}).all()
    known = {(row.email_id, row.recipient): row for row in found}
    return [_claimed(wish, known) for wish in wishes]


def _claimed(wish: _ClaimChange, known: Mapping[tuple[str, str], Found]) -> Claim:
    """Give the claim with the recipients that are its own, and what is known of the others."""
    claim = wish.claim
    rows = [known[claim.email_id, each] for each in wish.take]
    others = [row for row in rows if row.token != claim.token]
    ours = [row for row in rows if row.token == claim.token]
    return replace(
        claim,
        fresh=tuple(row.recipient for row in ours if not row.orphan),
        orphans=tuple(row.recipient for row in ours if row.orphan),
        busy=tuple(
            row.recipient for row in others if not row.final and row.settled < claim.attempt
        ),
        settled=tuple(_event(row) for row in others if row.final or row.settled == claim.attempt),
    )


def _event(row: Found) -> Outcome:
    return cast("Outcome", contracts.decode(row.kind, row.event.encode()))


def _whose(claim: Claim) -> Mapping[str, Any]:
    return {"of_email": claim.email_id, "of_token": claim.token}


def _kept(claim: Claim, event: Outcome) -> Row:
    """Give what is kept of an outcome."""
    return (
        claim.email_id,
        event.recipient,
        claim.token,
        claim.attempt,
        event.final,
        event.routing_key,
        contracts.encode(event).decode(),
    )
