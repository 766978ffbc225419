"""The stores of what operators did, and of the sessions that they ended, on both databases."""

import pytest

from services.console.store import MIGRATIONS, ActionStore, EndedSessionStore, metadata
from shared.storage import dialect
from shared.storage.dialect import Clock
from tests.clock import Clock as MovedClock
from tests.databases import Opener, differences

DAY_MS = 86_400_000


async def store_of(open_database: Opener, clock: Clock = dialect.now) -> ActionStore:
    """Open the store."""
    return ActionStore(await open_database("console", MIGRATIONS), 30, clock)


async def test_the_tables_are_those_of_the_migrations(open_database: Opener) -> None:
    """The tables that the code writes are those that the migrations made."""
    assert await differences(await open_database("console", MIGRATIONS), metadata) == []


async def test_an_action_is_there_before_its_result(open_database: Opener) -> None:
    """An action of which the result never came is shown without one."""
    store = await store_of(open_database)
    await store.begin("a-1", "ann", "192.0.2.1", "drop dead letters", "sender.bulk.dead")
    (begun,) = await store.page(10)
    await store.finish("a-1", "3 dropped")
    (finished,) = await store.page(10)

    assert (begun.operator, begun.remote) == ("ann", "192.0.2.1")
    assert (begun.action, begun.subject) == ("drop dead letters", "sender.bulk.dead")
    assert begun.result is None
    assert finished.result == "3 dropped"
    assert finished.at == begun.at


async def test_pages_go_on_where_the_one_before_ended(open_database: Opener) -> None:
    """The newest come first, and each action is on one page, also of the same time."""
    store = await store_of(open_database)
    for number in range(5):
        await store.begin(f"a-{number}", "ann", "::1", "drop", str(number))

    shown, before = [], None
    while page := await store.page(2, before):
        shown += [each.id for each in page]
        before = (round(page[-1].at.timestamp() * 1000), page[-1].id)

    assert len(shown) == 5
    assert set(shown) == {f"a-{number}" for number in range(5)}


@pytest.mark.parametrize(("days", "left"), [(29, 1), (31, 0)])
async def test_old_actions_are_deleted(open_database: Opener, days: int, left: int) -> None:
    """An action is kept as many days as are set."""
    store = await store_of(open_database)
    await store.begin("a-1", "ann", "::1", "drop", "x")
    later = await store_of(open_database, lambda c: dialect.now(c) + days * DAY_MS)

    await later.purge()

    assert len(await store.page(10)) == left


async def test_an_ended_session_is_kept_beyond_its_end(
    open_database: Opener, clock: MovedClock
) -> None:
    """It is kept once, and deleted a day after no cookie of it is valid any more."""
    store = EndedSessionStore(await open_database("console", MIGRATIONS), clock)
    for _ in range(2):
        await store.add("s-1", clock.seconds + 60)
    clock.seconds += DAY_MS / 1000
    await store.purge()
    kept = await store.ids()
    clock.seconds += 61
    await store.purge()

    assert kept == {"s-1"}
    assert not await store.ids()
