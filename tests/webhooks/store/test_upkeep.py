"""Backlogs, the purge and forgetting, in both databases."""

import sqlalchemy as sa

from services.webhooks import attempts
from services.webhooks.store import upkeep
from services.webhooks.store.tables import deliveries, messages, tries
from shared.storage.database import Database
from tests.webhooks.store.tables import KEEP_DAYS, Tables
from tests.webhooks.store.test_deliveries import of

DAY = 86_400


async def counts(tables: Tables) -> list[int]:
    """Return the rows of each table of events."""
    database: Database = tables.upkeep._database
    return [
        await database.read(
            lambda c, table=each: c.execute(  # type: ignore[misc] # mypy: the default is the table
                sa.select(sa.func.count()).select_from(table)
            ).scalar_one()
        )
        for each in (messages, deliveries, tries)
    ]


async def test_a_backlog_is_made_due_piece_by_piece(tables: Tables) -> None:
    """Few events are due, so that looking for them costs little; in the end all are sent."""
    await tables.add()
    total = upkeep.MAX_WAITING + 20
    await tables.keep(*(f"e{each}" for each in range(total)))
    await tables.upkeep.limit_waiting()
    await tables.keep("later")
    first = await tables.take(2 * total)
    for due in first[:100]:
        await tables.end(due)
    await tables.upkeep.spread()
    second = await tables.take(total)

    assert len(first) == upkeep.MAX_WAITING
    assert len(second) == 21
    assert of("later") in {each.message_id for each in second}


async def test_a_parked_event_without_a_backlog_is_found(tables: Tables) -> None:
    """A service that read an endpoint before it recovered may park an event after it."""
    await tables.add()
    await tables.keep("e1", "e2", "e3")
    for due in await tables.take():
        await tables.end(due, 500)
    tables.clock.seconds += DAY
    [probe] = await tables.take()
    await tables.end(probe)
    await tables.keep("late")
    for _ in range(2):
        await tables.upkeep.spread()
        await tables.upkeep.limit_waiting()

    assert len(await tables.take()) == 3


async def test_a_clock_that_is_put_back_holds_up_no_event(tables: Tables) -> None:
    """A try that was planned by the wrong time is due at once; one under way is not sent twice."""
    await tables.add()
    await tables.keep("e1", "e2")
    [taken] = await tables.deliveries.take(1)
    retried = await tables.take(1)
    await tables.end(retried[0], 500)
    tables.clock.seconds -= DAY
    assert await tables.take() == []
    await tables.upkeep.bring_forward()
    [due] = await tables.take()
    again = await tables.upkeep.bring_forward()
    tables.clock.seconds += attempts.LATEST_SECONDS
    late = await tables.take()

    assert due.message_id == retried[0].message_id
    assert again == 0
    assert taken.message_id in {each.message_id for each in late}


async def test_a_planned_try_is_not_brought_forward(tables: Tables) -> None:
    """A try waits its time, also the longest that there is."""
    await tables.add()
    await tables.keep("e1")
    [due] = await tables.take()
    await tables.end(due, 500)

    assert await tables.upkeep.bring_forward() == 0
    assert await tables.take() == []


async def test_old_events_are_purged(tables: Tables) -> None:
    """With their deliveries and tries, when their days are over; others stay."""
    await tables.add()
    await tables.keep("e1")
    [due] = await tables.take()
    await tables.end(due)
    tables.clock.seconds += KEEP_DAYS * DAY
    await tables.keep("e2")
    before = await tables.upkeep.purge()
    tables.clock.seconds += 1
    deleted = await tables.upkeep.purge()

    assert (before, deleted) == (0, 1)
    assert await counts(tables) == [1, 1, 0]


async def test_what_a_deleted_endpoint_leaves_is_purged(tables: Tables) -> None:
    """Its deliveries and tries, and not those of others."""
    await tables.add("w1")
    await tables.add("w2")
    await tables.keep("e1")
    for due in await tables.take():
        await tables.end(due)
    await tables.endpoints.delete("shop", "w1")
    await tables.upkeep.purge()

    assert await counts(tables) == [1, 1, 1]


async def test_a_person_is_forgotten(tables: Tables) -> None:
    """Every event about an address is deleted, in any spelling, and no other one."""
    await tables.add()
    await tables.keep("e1", recipient="Ann@example.org")
    await tables.keep("e2", recipient="bob@example.org")
    for due in await tables.take():
        await tables.end(due)
    deleted = await tables.upkeep.forget("ann@example.org")

    assert deleted == 1
    assert await counts(tables) == [1, 1, 1]
    assert [*await tables.states()] == [of("e2")]
