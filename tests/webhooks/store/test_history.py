"""The history of an endpoint in both databases, and what is sent again."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import orjson
import pytest
import sqlalchemy as sa

from services.webhooks.store.tables import deliveries
from shared.contracts import (
    ChangeWebhook,
    DeliveryStatus,
    ListWebhookDeliveries,
    ListWebhookTries,
    ReplayWebhook,
    SendTestEvent,
    WebhookResult,
    WebhookTry,
)
from shared.storage.database import HandlerDatabase
from tests.webhooks.store.tables import URL, Tables
from tests.webhooks.store.test_deliveries import of

T = TypeVar("T")
REPLAY = ReplayWebhook(id="q", client="shop", webhook_id="w1")


async def tries(tables: Tables, **more: object) -> list[WebhookTry]:
    """Return the tries of an endpoint, by all pages."""
    asked = ListWebhookTries.model_validate({"id": "q", "webhook_id": "w1", "limit": 2, **more})
    found = list[WebhookTry]()
    while True:
        page = await tables.history.tries(asked)
        assert page is not None
        found += page.items
        if page.next is None:
            return found
        asked = asked.model_copy(update={"after": page.next})


async def test_each_try_is_shown_as_it_was_sent_and_answered(tables: Tables) -> None:
    """The newest is first, with the body that was sent."""
    await tables.add()
    await tables.keep("e1")
    for status in (500, None, 200):
        [due] = await tables.take()
        await tables.end(due, status)
        tables.clock.seconds += 60
    shown = await tries(tables)

    assert [(each.number, each.status) for each in shown] == [(3, 200), (2, None), (1, 500)]
    assert {each.url for each in shown} == {URL}
    assert {each.body for each in shown} == {due.body.decode()}
    assert {each.headers["webhook-id"] for each in shown} == {of("e1")}
    assert shown == await tries(tables, message_id=of("e1"))
    assert await tries(tables, message_id=of("e2")) == []


async def test_deliveries_are_listed_by_pages(tables: Tables) -> None:
    """The newest event is first, each is in one page, and a status may be asked for."""
    await tables.add()
    for name in ("e1", "e2", "e3"):
        await tables.keep(name)
        tables.clock.seconds += 1
    [due] = await tables.take(1)
    await tables.end(due)
    asked = ListWebhookDeliveries(id="q", client="shop", webhook_id="w1", limit=2)
    first = await tables.history.deliveries(asked)
    assert first is not None
    last = await tables.history.deliveries(asked.model_copy(update={"after": first.next}))
    assert last is not None
    waiting = await tables.history.deliveries(
        asked.model_copy(update={"status": DeliveryStatus.WAITING})
    )

    found = [each.message_id for each in (*first.items, *last.items)]
    assert found == [of("e3"), of("e2"), of("e1")]
    assert last.next is None
    assert waiting is not None
    assert [each.message_id for each in waiting.items] == [of("e3"), of("e2")]


async def test_nothing_is_shown_to_another_client(tables: Tables) -> None:
    """Neither deliveries nor tries nor a test, and nothing is sent again."""
    await tables.add()
    await tables.keep("e1")
    asked = {"id": "q", "client": "bank", "webhook_id": "w1"}
    shown = [
        await tables.history.deliveries(ListWebhookDeliveries.model_validate(asked)),
        await tables.history.tries(ListWebhookTries.model_validate(asked)),
        await tables.history.send_test(SendTestEvent.model_validate(asked)),
    ]

    assert shown == [None] * 3
    assert await tables.history.replay(ReplayWebhook.model_validate(asked)) == (
        WebhookResult.UNKNOWN,
        0,
    )


async def test_one_event_is_sent_again(tables: Tables) -> None:
    """Under the webhook-id that it had, with as many tries as a new one."""
    await tables.add()
    await tables.keep("e1", "e2")
    for due in await tables.take():
        await tables.end(due)
    asked = REPLAY.model_copy(update={"message_id": of("e1")})
    replayed = await tables.history.replay(asked)
    [due] = await tables.take()
    await tables.end(due)

    assert replayed == (WebhookResult.FOUND, 1)
    assert (due.message_id, due.tries, due.begun_at) == (of("e1"), 0, None)
    assert [each.number for each in await tries(tables, message_id=of("e1"))] == [2, 1]


async def test_a_span_is_sent_again(tables: Tables) -> None:
    """Delivered events only if that is asked for; twice asked, it is sent once."""
    await tables.add()
    for name in ("e1", "e2", "e3"):
        await tables.keep(name)
        tables.clock.seconds += 60
    for due in await tables.take():
        await tables.end(due)
    begin = datetime.fromtimestamp(tables.clock.seconds - 180, UTC)
    end = datetime.fromtimestamp(tables.clock.seconds - 60, UTC)
    span = REPLAY.model_copy(update={"since": begin, "until": end})
    nothing = await tables.history.replay(span)
    all_of_it = span.model_copy(update={"delivered": True})
    counts = [(await tables.history.replay(all_of_it))[1] for _ in range(2)]
    await tables.upkeep.spread()

    assert nothing == (WebhookResult.FOUND, 0)
    assert counts == [2, 0]
    assert {each.message_id for each in await tables.take()} == {of("e1"), of("e2")}


async def test_an_event_that_is_not_there_is_not_sent_again(tables: Tables) -> None:
    """An unknown id, and that of another endpoint's event, have a result of their own."""
    await tables.add()
    await tables.add("w2", "bank")
    await tables.keep("e1", client="bank")
    await tables.keep("e2")
    [due] = [each for each in await tables.take() if each.endpoint_id == "w1"]
    results = [
        await tables.history.replay(REPLAY.model_copy(update={"message_id": each}))
        for each in (of("e0"), of("e1"), due.message_id)
    ]

    assert results[:2] == [(WebhookResult.NO_EVENT, 0)] * 2
    assert results[2] == (WebhookResult.FOUND, 0)  # it is under way


async def test_a_long_replay_sends_each_event_once(
    tables: Tables, other: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that another replica has sent between two pieces is not chosen by the next one."""
    await tables.add()
    names = [f"e{number}" for number in range(2500)]
    await tables.keep(*names[:1250])
    tables.clock.seconds += 1
    await tables.keep(*names[1250:])

    async def send_all() -> int:
        await other.upkeep.spread()
        due = await other.take(len(names))
        return sum(await other.deliveries.finish([*map(other.tried, due)]))

    assert await send_all() == len(names)
    database: HandlerDatabase = tables.history._database
    write, sent = database.write, list[int]()

    async def write_and_send(work: Callable[[sa.Connection], T]) -> T:
        result = await write(work)
        sent.append(await send_all())
        return result

    monkeypatch.setattr(database, "write", write_and_send)
    replayed = await tables.history.replay(REPLAY.model_copy(update={"delivered": True}))
    sent.append(await send_all())
    await other.upkeep.spread()
    numbers = sa.select(deliveries.c.number, sa.func.count()).group_by(deliveries.c.number)
    rows = await database.read(lambda c: c.execute(numbers).all())

    assert replayed == (WebhookResult.FOUND, len(names))
    assert sum(sent) == len(names)
    assert [(number, count) for number, count in rows] == [(2, len(names))]


async def test_what_a_disabled_endpoint_missed_is_sent_once_it_is_enabled(tables: Tables) -> None:
    """A replay is refused until then."""
    await tables.add()
    change = ChangeWebhook(id="q", client="shop", webhook_id="w1", enabled=False)
    await tables.endpoints.change(change)
    await tables.keep("e1", "e2")
    refused = await tables.history.replay(REPLAY)
    await tables.endpoints.change(change.model_copy(update={"enabled": True}))
    replayed = await tables.history.replay(REPLAY)
    await tables.upkeep.spread()

    assert refused == (WebhookResult.DISABLED, 0)
    assert replayed == (WebhookResult.FOUND, 2)
    assert len(await tables.take()) == 2


async def test_a_replay_finds_a_failing_endpoint_that_works_again(tables: Tables) -> None:
    """Its owner need not wait for the time of the next try."""
    await tables.add()
    await tables.keep("e1", "e2")
    for _ in range(3):
        [due, *_] = await tables.take(1)
        await tables.end(due, 500, jitter=1)
        tables.clock.seconds += 60 * (due.tries + 1)
    before = await tables.take()
    await tables.deliveries.give_back(before)
    await tables.history.replay(REPLAY)
    await tables.upkeep.spread()

    assert len(await tables.take()) == 1


async def test_a_test_is_sent_once(tables: Tables) -> None:
    """Also to a disabled endpoint; its failure is no failure of the endpoint."""
    await tables.add()
    change = ChangeWebhook(id="q", client="shop", webhook_id="w1", enabled=False)
    await tables.endpoints.change(change)
    sent = await tables.history.send_test(SendTestEvent(id="t1", webhook_id="w1", client="shop"))
    [due] = await tables.take()
    await tables.end(due, 500)
    tables.clock.seconds += 86_400

    assert due.message_id == sent
    assert orjson.loads(due.body)["type"] == "webhook.test"
    assert await tables.take() == []
    assert (await tables.found()).failures == 0
    assert await tables.states() == {sent: "failed"}
