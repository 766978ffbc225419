"""Claims in both databases: one sender at a time, outcomes kept, claims taken over."""

import asyncio
import math
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from services.sender.claims import LEASE_SECONDS, Claim
from services.sender.store import ClaimStore
from services.sender.tables import claims, metadata
from shared.contracts import Outcome, SendEmail, Stage
from shared.errors import Reject, Retry
from shared.replies import reply as replies
from shared.storage.database import Database
from tests.clock import Clock
from tests.databases import differences, has_log
from tests.sender.commands import a_command, outcomes

ANNA, BEN, EVE = "anna@x.example", "ben@x.example", "eve@x.example"
WEEK = 604_800.0
AT_ONCE = 50  # mails that two senders claim at the same time


def delivered(command: SendEmail, *recipients: str) -> tuple[Outcome, ...]:
    """Return the final events of an attempt for some recipients, by default all."""
    return outcomes(command, replies.received(Stage.DOT, 250, "2.0.0 Queued"), *recipients)


def deferred(command: SendEmail, *recipients: str) -> tuple[Outcome, ...]:
    """Return the events of an attempt that is tried again."""
    return outcomes(command, replies.received(Stage.RCPT, 451, "4.3.2 Busy"), *recipients)


async def rows(each_database: Database) -> int:
    """Count the rows."""
    count = sa.select(sa.func.count()).select_from(claims)
    return await each_database.read(lambda connection: connection.scalar(count)) or 0


async def pass_by(turns: int) -> None:
    """Run the loop for so many turns."""
    loop = asyncio.get_running_loop()
    for _ in range(turns):
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn


async def test_the_migrations_make_the_table(each_database: Database) -> None:
    """The table that the store writes to is the one that the migrations make."""
    assert await differences(each_database, metadata) == []


async def test_fresh(store: ClaimStore) -> None:
    """A new mail is claimed for all its recipients in their order."""
    claim = await store.claim(a_command(EVE, ANNA, BEN))

    assert claim.fresh == claim.ours == (EVE, ANNA, BEN)
    assert (claim.orphans, claim.busy, claim.settled) == ((), (), ())


async def test_an_attempt_without_recipients(store: ClaimStore) -> None:
    """An attempt without recipients claims nothing."""
    assert (await store.claim(a_command().model_copy(update={"pending": ()}))).ours == ()


async def test_busy(store: ClaimStore, replica: ClaimStore) -> None:
    """A claimed recipient is busy for all other claims, here or in another process."""
    await store.claim(a_command())

    assert (await replica.claim(a_command())).busy == (ANNA,)
    assert (await store.claim(a_command())).busy == (ANNA,)


async def test_settled(store: ClaimStore, replica: ClaimStore) -> None:
    """A settled mail answers every copy of its command with the same events."""
    command = a_command(ANNA, BEN)
    events = delivered(command)
    await store.settle(await store.claim(command), events)

    copy = await replica.claim(command)

    assert copy.ours == copy.busy == ()
    assert tuple(copy.settled) == events
    assert (await replica.claim(command.model_copy(update={"attempt": 2}))).settled == copy.settled


async def test_deferred(store: ClaimStore) -> None:
    """A copy of a deferred attempt gets its events again; the next attempt may send."""
    first = a_command()
    second = a_command(attempt=2)
    events = deferred(first)
    await store.settle(await store.claim(first), events)

    copy, following = await store.claim(first), await store.claim(second)

    assert (tuple(copy.settled), copy.ours) == (events, ())
    assert following.fresh == (ANNA,)


async def test_superseded(store: ClaimStore) -> None:
    """A copy of an attempt whose successor is settled claims and returns nothing."""
    first, second = a_command(), a_command(attempt=2)
    for command in (first, second):
        await store.settle(await store.claim(command), deferred(command))

    copy = await store.claim(first)

    assert (copy.ours, copy.busy, copy.settled) == ((), (), ())


async def test_each_recipient_for_itself(store: ClaimStore, replica: ClaimStore) -> None:
    """Recipients of one mail may be settled, busy and fresh at the same time."""
    half = a_command(ANNA, BEN, EVE, pending=(ANNA, BEN))
    claim = await store.claim(half)
    await store.settle(claim, delivered(half, ANNA))
    await store.claim(half.model_copy(update={"pending": (BEN,)}))

    whole = await replica.claim(a_command(ANNA, BEN, EVE))

    assert whole.fresh == (EVE,)
    assert whole.busy == (BEN,)
    assert [event.recipient for event in whole.settled] == [ANNA]


async def test_excess_is_given_back(store: ClaimStore, replica: ClaimStore) -> None:
    """A recipient without an outcome is free at once for the same attempt."""
    command = a_command(ANNA, BEN)
    await store.settle(await store.claim(command), delivered(command, ANNA))

    assert (await replica.claim(command)).fresh == (BEN,)


async def test_give_back(store: ClaimStore, replica: ClaimStore) -> None:
    """A claim that is given back leaves no trace."""
    await store.give_back(await store.claim(a_command()))

    assert (await replica.claim(a_command())).fresh == (ANNA,)


async def test_takeover(store: ClaimStore, replica: ClaimStore, clock: Clock) -> None:
    """A claim that is not renewed is taken over at the end of its lease, as an orphan."""
    await store.claim(a_command())
    clock.seconds += LEASE_SECONDS - 0.001
    early = await replica.claim(a_command())
    clock.seconds += 0.001
    late = await replica.claim(a_command())

    assert early.busy == (ANNA,)
    assert (late.fresh, late.orphans) == ((), (ANNA,))
    assert (await store.claim(a_command())).busy == (ANNA,)


async def test_a_clock_put_back(store: ClaimStore, replica: ClaimStore, clock: Clock) -> None:
    """A lease from before is over after a lease, unless its holder lives and renews it."""
    dead, alive = await store.claim(a_command(id="dead")), await store.claim(a_command(id="alive"))
    store.abandon(dead)
    clock.seconds -= WEEK
    taken = []
    for _ in range(2):
        taken.append([(await replica.claim(a_command(id=each))).ours for each in ("dead", "alive")])
        await store.renew()
        clock.seconds += LEASE_SECONDS - 0.001
        await store.renew()
        clock.seconds += 0.001

    assert taken == [[(), ()], [alive.ours, ()]]


async def test_renewal(store: ClaimStore, replica: ClaimStore, clock: Clock) -> None:
    """A claim lasts while its holder renews it, and no longer."""
    claim = await store.claim(a_command())
    for _ in range(10):
        clock.seconds += LEASE_SECONDS / 2
        await store.renew()
    kept = await replica.claim(a_command())
    store.abandon(claim)
    clock.seconds += LEASE_SECONDS
    await store.renew()

    assert kept.busy == (ANNA,)
    assert (await replica.claim(a_command())).orphans == (ANNA,)


async def test_a_claim_that_ends_during_a_renewal_is_not_lost(store: ClaimStore) -> None:
    """A claim that its holder ends was taken over by nobody, and no warning says so."""
    kept, freed = [await store.claim(a_command(each)) for each in (ANNA, BEN)]
    with capture_logs() as logs:
        await asyncio.gather(
            store.settle(kept, delivered(a_command(), ANNA)), store.give_back(freed), store.renew()
        )

    assert logs == []
    assert -math.inf not in {kept.lease.until, freed.lease.until}


async def test_an_orphan_stays_one(store: ClaimStore, clock: Clock) -> None:
    """An orphan that is given back stays an orphan."""
    await store.claim(a_command())
    clock.seconds += LEASE_SECONDS
    await store.give_back(await store.claim(a_command()))

    assert (await store.claim(a_command())).orphans == (ANNA,)


async def test_an_earlier_claim_is_void(store: ClaimStore) -> None:
    """The next attempt can claim although the outcome of the one before was not kept."""
    await store.claim(a_command())

    assert (await store.claim(a_command(attempt=2))).fresh == (ANNA,)


async def test_two_ends_at_once(store: ClaimStore, clock: Clock) -> None:
    """When a claim and the one that took it over are settled together, the first counts."""
    command = a_command()
    late = await store.claim(command)
    clock.seconds += LEASE_SECONDS
    taken_over = await store.claim(command)
    outcome = delivered(command)
    await asyncio.gather(store.settle(late, outcome), store.settle(taken_over, deferred(command)))

    assert (await store.claim(command)).settled == outcome


async def test_at_once(store: ClaimStore, replica: ClaimStore) -> None:
    """Of commands with one id that two senders claim at once, one gets each recipient."""
    commands = [a_command(EVE, ANNA, BEN, id=f"mail-{number}") for number in range(AT_ONCE)]
    backwards = [command.model_copy(update={"to": command.to[::-1]}) for command in commands]

    async def all_at_once(store: ClaimStore, commands: list[SendEmail]) -> list[Claim]:
        return await asyncio.gather(*map(store.claim, commands))

    ours, theirs, again = await asyncio.gather(
        all_at_once(store, commands),
        all_at_once(replica, backwards[::-1]),
        all_at_once(replica, commands),
    )

    taken = [(claim.email_id, each) for claim in (*ours, *theirs, *again) for each in claim.fresh]
    assert len(taken) == len(set(taken)) == AT_ONCE * 3


async def test_cancelled(store: ClaimStore, replica: ClaimStore) -> None:
    """A claim that is cancelled at any moment is free again."""
    for turns in range(1, 12):
        command = a_command(id=f"mail-{turns}")
        claiming = asyncio.create_task(store.claim(command))
        await pass_by(turns)
        claiming.cancel()
        await asyncio.wait({claiming})
        if not claiming.cancelled():
            await store.give_back(claiming.result())

        assert (await replica.claim(command)).fresh == (ANNA,)


async def test_cancelled_at_the_end(store: ClaimStore, replica: ClaimStore) -> None:
    """An outcome is kept although its task is cancelled at any moment."""
    for turns in range(1, 12):
        command = a_command(id=f"mail-{turns}")
        claim = await store.claim(command)
        keeping = asyncio.create_task(store.settle(claim, delivered(command)))
        await pass_by(turns)
        keeping.cancel()
        await asyncio.wait({keeping})

        assert tuple((await replica.claim(command)).settled) == delivered(command)


async def test_purge(
    store: ClaimStore, each_database: Database, clock: Clock, tmp_path: Path
) -> None:
    """A mail is purged after the given time, not before."""
    command = a_command(ANNA, BEN)
    await store.settle(await store.claim(command), delivered(command))
    clock.seconds += WEEK

    assert await store.purge(WEEK) == 0
    clock.seconds += 0.001
    assert await store.purge(WEEK) == 2
    assert not has_log(tmp_path)
    assert await rows(each_database) == 0


async def test_database_away(store: ClaimStore, each_database: Database) -> None:
    """Without its table a claim raises Retry."""
    command = a_command()
    claim = await store.claim(command)
    await each_database.write(claims.drop)

    with pytest.raises(Retry):
        await store.claim(command)
    with pytest.raises(Retry):
        await store.settle(claim, delivered(command))


@pytest.mark.parametrize("attempt", [1 << 63, 1 << 70])
async def test_poison_takes_no_neighbour_with_it(store: ClaimStore, attempt: int) -> None:
    """A value that no database can hold is rejected; other claims are not affected.

    Issue 10, A3: the contract has a bound now, and the store does not rest on it.
    """
    poison = a_command(EVE).model_copy(update={"id": "poison", "attempt": attempt})
    good = [a_command(ANNA, id=f"mail-{number}") for number in range(8)]
    commands = [*good[:5], poison, *good[5:]]

    ends = await asyncio.gather(*map(store.claim, commands), return_exceptions=True)

    [refused] = [end for end in ends if isinstance(end, BaseException)]
    assert isinstance(refused, Reject)
    assert str(refused).startswith("the claims cannot hold a value: ")
    claimed = [end for end in ends if isinstance(end, Claim) and end.email_id != "poison"]
    assert [each.fresh for each in claimed] == [(ANNA,)] * 8
