"""Events at endpoints in both databases: kept once, taken by one, finished, failing, parked."""

import asyncio
from datetime import timedelta

from services.webhooks.attempts import RETRY_SPAN, State
from services.webhooks.messages import message_id
from services.webhooks.service import MIGRATIONS
from services.webhooks.store.deliveries import PARK_FAILURES
from services.webhooks.store.tables import metadata
from shared.contracts import ChangeWebhook, DisabledFor
from tests.clock import Clock
from tests.databases import Opener, differences
from tests.webhooks.store.tables import KEEP_DAYS, LEASE, Tables

DAY = 86_400


def of(name: str) -> str:
    """Return the webhook-id of an event of a delivered mail."""
    return message_id("email.delivered", name)


async def test_the_migrations_make_the_tables(open_database: Opener) -> None:
    """The tables that the stores use are those that the migrations make."""
    assert await differences(await open_database("webhooks", MIGRATIONS), metadata) == []


async def test_an_event_is_kept_once_for_each_endpoint_that_wants_it(tables: Tables) -> None:
    """A copy of an event is no second delivery, and its body is stored once."""
    await tables.add("w1")
    await tables.add("w2")
    await tables.add("w3", events=["code.*"])
    kept = [await tables.keep("e1", "e1"), await tables.keep("e1", "e2")]
    due = await tables.take()

    assert kept == [True, True]
    assert sorted((each.endpoint_id, each.message_id) for each in due) == sorted(
        (endpoint, of(event)) for endpoint in ("w1", "w2") for event in ("e1", "e2")
    )
    assert len({each.body for each in due}) == 2


async def test_an_event_keeps_its_trace(tables: Tables) -> None:
    """It is due with the trace that it came with; a copy of it without one changes nothing."""
    await tables.add("w1")
    first, other = tables.messages("e1", "e2")
    await tables.deliveries.keep([first._replace(trace="00-1-1-01"), first, other])

    traces = {each.message_id: each.trace for each in await tables.take()}
    assert traces == {of("e1"): "00-1-1-01", of("e2"): None}


async def test_no_client_gets_the_events_of_another(tables: Tables) -> None:
    """An endpoint gets its client's events; the administrator's gets those of all."""
    await tables.add("w1", "shop")
    await tables.add("w2", "bank")
    await tables.add("w3", None)
    await tables.keep("e1")

    assert {each.endpoint_id for each in await tables.take()} == {"w1", "w3"}


async def test_an_event_older_than_all_that_is_kept_is_left_out(tables: Tables) -> None:
    """It may be a copy of one that was delivered and purged: it would be delivered again."""
    await tables.add()
    old = tables.messages("e1")
    tables.clock.seconds += KEEP_DAYS * DAY + 1

    assert not await tables.deliveries.keep(old)
    assert await tables.take() == []


async def test_two_replicas_never_take_one_event(tables: Tables, other: Tables) -> None:
    """An event belongs to the one that took it, for its lease."""
    await tables.add()
    await tables.keep(*(f"e{each}" for each in range(100)))
    mine, theirs = await asyncio.gather(tables.take(60), other.take(60))

    taken = [each.message_id for each in (*mine, *theirs)]
    assert len(taken) == len(set(taken)) == 100


async def test_what_a_dead_service_took_is_due_after_its_lease(
    tables: Tables, other: Tables
) -> None:
    """The event is sent by another, and what the first one finishes late changes nothing."""
    await tables.add()
    await tables.keep("e1")
    [first] = await tables.take()
    before = await other.take()
    tables.clock.seconds += LEASE.total_seconds()
    [second] = await other.take()
    late, written = await tables.end(first, 500), await other.end(second)

    assert (before, late, written) == ([], False, True)
    assert await tables.states() == {of("e1"): "delivered"}


async def test_what_is_given_back_is_due_at_once(tables: Tables, other: Tables) -> None:
    """A service that ends leaves what it has not sent to the others."""
    await tables.add()
    await tables.keep("e1")
    await tables.deliveries.give_back(await tables.take())

    assert [each.tries for each in await other.take()] == [0]


async def test_a_failure_is_tried_again_later(tables: Tables) -> None:
    """The next try has its time, and the one after it a later one."""
    await tables.add()
    await tables.keep("e1")
    waits = []
    for _ in range(3):
        [due] = await tables.take()
        await tables.end(due, 500)
        waits.append(0)
        while not (again := await tables.take()):
            tables.clock.seconds += 1
            waits[-1] += 1
        await tables.deliveries.give_back(again)

    assert waits == [5, 15, 45]


async def test_an_endpoint_may_be_left_out(tables: Tables) -> None:
    """One that has all its connections is not asked for; nor are those that failed, if so."""
    await tables.add("w1")
    await tables.add("w2")
    await tables.keep("e1")
    for each in await tables.take():
        await tables.end(each, 500 if each.endpoint_id == "w1" else 200)
    tables.clock.seconds += DAY
    await tables.keep("e2")
    healthy = await tables.deliveries.take(10, failing=False)
    rest = await tables.deliveries.take(10, {"w1"})
    failing = await tables.take()

    assert {each.endpoint_id for each in healthy} == {"w2"}
    assert list(rest) == []
    assert {each.endpoint_id for each in failing} == {"w1"}


async def test_failures_are_counted_until_a_success(tables: Tables) -> None:
    """The count and its start are in the store, so that a restart forgets nothing."""
    await tables.add()
    begin = tables.clock.seconds
    await tables.keep("e1")
    for _ in range(2):
        [due] = await tables.take()
        await tables.end(due, None)
        tables.clock.seconds += 60
    failing = await tables.found()
    [due] = await tables.take()
    await tables.end(due, 204)
    well = await tables.found()

    assert failing.failures == 2
    assert failing.failing_since is not None
    assert failing.failing_since.timestamp() == begin
    assert (well.failures, well.failing_since) == (0, None)


async def test_410_disables_an_endpoint(tables: Tables) -> None:
    """Nothing is sent to it any more, and what it missed is kept."""
    await tables.add()
    await tables.keep("e1", "e2")
    first, second = await tables.take()
    await tables.end(first, 410)
    await tables.end(second, 500)
    await tables.keep("e3")
    tables.clock.seconds += DAY
    due, found = await tables.take(), await tables.found()

    assert found.disabled_for is DisabledFor.GONE
    assert due == []
    assert set((await tables.states()).values()) == {"held"}


async def test_three_days_of_failures_disable_an_endpoint(tables: Tables) -> None:
    """Less does not, however many events fail; the administrator learns of it by an event."""
    await tables.add()
    await tables.keep("e1")
    begin = tables.clock.seconds
    while (found := await tables.found()).disabled_at is None:
        for due in await tables.take():
            await tables.end(due, 503)
        tables.clock.seconds += 600
    [told] = await tables.upkeep.unannounced()
    await tables.upkeep.announced(told)

    assert timedelta(seconds=found.disabled_at.timestamp() - begin) >= RETRY_SPAN
    assert found.disabled_at.timestamp() - begin < RETRY_SPAN.total_seconds() + 3600
    assert (found.disabled_for, told.webhook_id) == (DisabledFor.FAILING, "w1")
    assert await tables.upkeep.unannounced() == []
    assert await tables.states() == {of("e1"): "failed"}


async def test_an_endpoint_that_fails_is_tried_with_one_event(tables: Tables) -> None:
    """The others wait without a time until it works again, and then are all sent."""
    await tables.add()
    names = [f"e{each}" for each in range(20)]
    await tables.keep(*names)
    for each in await tables.take(PARK_FAILURES):
        await tables.end(each, 500)
    await tables.keep("later")
    tables.clock.seconds += 3600
    await tables.upkeep.spread()
    [probe] = await tables.take()
    still = await tables.take()
    await tables.end(probe)
    await tables.upkeep.spread()
    rest = await tables.take()
    for each in rest:
        await tables.end(each)

    assert still == []
    assert len(rest) == len(names)
    assert set((await tables.states()).values()) == {"delivered"}


async def test_a_success_among_failures_parks_nothing(tables: Tables) -> None:
    """An endpoint that refuses single events fails for these alone."""
    await tables.add()
    for name in map(str, range(2 * PARK_FAILURES)):
        await tables.keep(f"bad{name}")
        [due] = await tables.take()
        await tables.end(due, 500)
        await tables.keep(f"good{name}")
        [due] = await tables.take()
        await tables.end(due)

    assert (await tables.found()).failures == 0
    await tables.keep("next")
    assert [each.message_id for each in await tables.take()] == [of("next")]


async def test_a_deleted_endpoint_gets_nothing(tables: Tables) -> None:
    """A try that is under way at the deletion leaves no trace, and no other one begins."""
    await tables.add()
    await tables.keep("e1", "e2")
    [under_way] = await tables.take(1)
    assert await tables.endpoints.delete("shop", "w1")
    await tables.end(under_way)

    assert await tables.take() == []
    assert not await tables.keep("e3")


async def test_results_of_many_are_written_at_once(tables: Tables, clock: Clock) -> None:
    """Each counts for its own endpoint, in the order of the tries."""
    del clock
    for name in ("w1", "w2", "w3"):
        await tables.add(name)
    await tables.keep("e1", "e2")
    for each in await tables.take():
        await tables.end(each, {"w1": 200, "w2": 500}.get(each.endpoint_id))

    assert [(await tables.found(name)).failures for name in ("w1", "w2", "w3")] == [0, 2, 2]
    assert State.DELIVERED.name.lower() in (await tables.states("w1")).values()


async def test_a_disabled_endpoint_that_is_enabled_begins_anew(tables: Tables) -> None:
    """The events that it missed stay held, and later ones are sent."""
    await tables.add()
    disable = ChangeWebhook(id="q", client="shop", webhook_id="w1", enabled=False)
    await tables.endpoints.change(disable)
    await tables.keep("missed")
    await tables.endpoints.change(disable.model_copy(update={"enabled": True}))
    await tables.keep("new")
    await tables.upkeep.limit_waiting()
    await tables.upkeep.spread()

    assert [each.message_id for each in await tables.take()] == [of("new")]
    assert (await tables.states())[of("missed")] == "held"
