"""The end of a consumer: waiting handlings end at once, committed ones are awaited."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from structlog.testing import capture_logs

from shared import inflight, topology
from shared.broker import Broker
from shared.consumer import Consumer, Subscription
from shared.contracts import Contract, SendEmail, encode
from shared.delivery import Delivery, Publishing
from shared.inflight import HANDLER, Handling, Phase
from tests.clock import Watch
from tests.shared.messages import KIND, QUEUE, fact, mail
from tests.shared.tag import RecordingTag
from tests.tap import tapped
from tests.waiting import PATIENCE_SECONDS, until

Handler = Callable[[SendEmail], Awaitable[Sequence[Contract]]]


def a_subscription(handler: Handler, committed: float = 0.0) -> Subscription:
    """Return a subscription of the test's queue."""
    return Subscription(QUEUE, {SendEmail: handler}, prefetch=4, committed_seconds=committed)


async def done_with(command: SendEmail) -> Sequence[Contract]:
    """Handle a command."""
    return [fact(command.id)]


class Steps:
    """A handler that comes to one phase for each message, and stays there until it is released."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.seen: list[str] = []

    async def __call__(self, command: SendEmail) -> Sequence[Contract]:
        """Enter the phase that the id names."""
        self.seen.append(command.id)
        inflight.reach(Phase[command.id])
        await self.go_on.wait()
        return []


def a_delivery(id_: str) -> Delivery:
    """Return a message whose id names a phase."""
    return Delivery(QUEUE, KIND, encode(mail(id_)), id_, id_, None, 1, {})


def given(consumer: Consumer, *ids: str) -> dict[str, RecordingTag]:
    """Pass some messages to a consumer and return their receipts."""
    tags = {each: RecordingTag() for each in ids}
    for each, tag in tags.items():
        consumer.take(a_delivery(each), tag)
    return tags


async def unused(item: Publishing) -> None:
    """Publish nothing: these handlers have no results."""
    raise AssertionError(item)


def test_a_phase_counts_from_when_it_was_entered() -> None:
    """Entering the present phase changes nothing: each piece of a mail enters it."""
    clock = Watch()
    work = Handling(clock, clock())
    token = inflight.current.set(work)
    clock.now += 5
    inflight.reach(Phase.COMMITTED, "a reply")
    entered = clock()
    clock.now += 2
    inflight.reach(Phase.COMMITTED, "a reply")
    inflight.current.reset(token)

    seen = (work.phase, work.waits_for, work.since)
    assert seen == (Phase.COMMITTED, "a reply", entered)


@pytest.mark.parametrize("phase", Phase)
def test_the_handler_marks_its_own_delivery(phase: Phase) -> None:
    """Code far below the consumer marks the phase without an argument."""
    work = Handling(Watch(), 0.0)
    token = inflight.current.set(work)
    inflight.reach(phase)
    inflight.current.reset(token)

    assert (work.phase, work.waits_for) == (phase, HANDLER)


def test_outside_of_a_delivery() -> None:
    """Outside of a handling, marking a phase does nothing."""
    inflight.reach(Phase.COMMITTED)

    assert inflight.current.get() is None


async def test_the_end_waits_by_phase() -> None:
    """Waiting messages go back at once, begun ones in time; committed ones are waited for."""
    handler = Steps()
    consumer = Consumer(a_subscription(handler, committed=PATIENCE_SECONDS), unused)
    tags = given(consumer, "WAITING", "BEGUN", "COMMITTED")
    await asyncio.sleep(0)
    consumer.release()
    unread = given(consumer, "late")["late"]
    before = {each: list(tag.settled) for each, tag in tags.items()}
    with capture_logs() as logs:
        draining = asyncio.create_task(consumer.drain(0.01))
        await until(lambda: is_settled(tags["BEGUN"]))
        after = {each: list(tag.settled) for each, tag in tags.items()}
        handler.go_on.set()
        await draining

    back = ["requeue"]
    assert handler.seen == ["WAITING", "BEGUN", "COMMITTED"]
    assert before == {"WAITING": [], "BEGUN": [], "COMMITTED": []}
    assert after == {"WAITING": back, "BEGUN": back, "COMMITTED": []}
    assert tags["COMMITTED"].settled == ["ack"]
    assert unread.settled == back
    waits = [line["count"] for line in logs if line["event"] == "waiting to end"]
    assert waits[0] == 2
    assert waits[-1] == 1


async def is_settled(tag: RecordingTag) -> bool:
    """Return whether a delivery is settled."""
    return bool(tag.settled)


async def test_a_committed_handling_is_awaited_for_its_time() -> None:
    """A committed handling that outlasts its time is cancelled, and its message comes again."""
    consumer = Consumer(a_subscription(Steps(), committed=0.05), unused)
    tag = given(consumer, "COMMITTED")["COMMITTED"]
    await asyncio.sleep(0)
    await consumer.drain(0.01)

    assert tag.settled == ["requeue"]


async def test_told_twice_to_end() -> None:
    """A drain that is cancelled leaves all to the broker at once."""
    consumer = Consumer(a_subscription(Steps(), committed=PATIENCE_SECONDS), unused)
    tags = given(consumer, "BEGUN", "COMMITTED")
    draining = asyncio.create_task(consumer.drain(PATIENCE_SECONDS))
    await asyncio.sleep(0)
    draining.cancel()
    await asyncio.wait({draining})
    await consumer.cut()

    assert [tag.settled for tag in tags.values()] == [["requeue"]] * 2


async def test_not_begun_and_not_waited_for() -> None:
    """A delivery whose handler has not been called yet goes back unread."""
    handler = Steps()
    consumer = Consumer(a_subscription(handler), unused)
    tag = given(consumer, "BEGUN")["BEGUN"]
    await consumer.drain(PATIENCE_SECONDS)

    assert handler.seen == []
    assert tag.settled == ["requeue"]


async def test_the_channel_is_gone_at_the_end() -> None:
    """A message of a lost channel is not returned: the broker has it already."""
    consumer = Consumer(a_subscription(Steps()), unused)
    tag = given(consumer, "WAITING")["WAITING"]
    tag.void = True
    await consumer.drain(PATIENCE_SECONDS)

    assert tag.settled == []


async def test_cancelled_consuming_leaves_all_at_once(url: str) -> None:
    """After a second signal a service does not wait for its handlers."""
    started = asyncio.Event()

    async def hang(command: SendEmail) -> Sequence[Contract]:
        started.set()
        await asyncio.Event().wait()
        return [fact(command.id)]

    async def serve() -> None:
        async with (
            Broker.connect(url, "old") as old,
            old.consuming(a_subscription(hang), drain=600),
        ):
            await started.wait()

    async with Broker.connect(url, "new") as new, tapped(url, topology.EVENTS) as events:
        await new.publish(mail("first"))
        serving = asyncio.create_task(serve())
        await started.wait()
        await asyncio.wait({serving}, timeout=0.05)
        serving.cancel()
        await asyncio.wait({serving}, timeout=PATIENCE_SECONDS)
        async with new.consuming(a_subscription(done_with)):
            done = (await events.next()).message_id

    assert serving.cancelled()
    assert done == "first"
