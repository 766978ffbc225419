"""The guarantee on a real broker: nothing is lost, nothing loops, neighbours go on."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from ops.broker import RabbitServer as Node
from shared import delivery, rabbitmq, retry, topology
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import Contract, SendEmail
from shared.errors import Reject, Retry
from shared.retry import Reschedule
from tests.proxy import Proxy
from tests.shared.messages import QUEUE, fact, mail
from tests.tap import Tap, depth, publish_raw, tapped
from tests.waiting import PATIENCE_SECONDS, until

DEAD_QUEUE = topology.dead_queue(QUEUE)

Handler = Callable[[SendEmail], Awaitable[Sequence[Contract | Reschedule]]]


def subscription(handler: Handler, prefetch: int = 4, limit: float = 10) -> Subscription:
    """Return a subscription of the test's queue."""
    return Subscription(QUEUE, {SendEmail: handler}, prefetch, limit)


class ScriptedHandler:
    """A handler that fails by the next of its steps at each delivery of "first", then succeeds."""

    def __init__(self, *steps: BaseException | None) -> None:
        self._steps = list(steps)
        self.seen: list[str] = []
        self.called = asyncio.Event()

    async def __call__(self, command: SendEmail) -> Sequence[Contract]:
        """Raise the next step, or return None for it; after the last one return an event."""
        self.seen.append(command.id)
        self.called.set()
        if self._steps and command.id == "first":
            step = self._steps.pop(0)
            if step is None:
                return None  # type: ignore[return-value]  # a defect
            raise step
        return [fact(command.id)]


async def has_no_consumer(broker: Broker) -> bool:
    """Return whether a consumer of `broker` has lost its queue."""
    return not await broker.ready()


async def ids(tap: Tap, count: int, within: float = 20) -> list[str | None]:
    """Return the ids of the next `count` messages."""
    return [(await tap.next(within)).message_id for _ in range(count)]


async def test_results_are_published_before_the_acknowledgement(url: str) -> None:
    """Results are on their exchange with the id of the request, and the queue is empty."""
    async with (
        Broker.connect(url, "tests") as broker,
        tapped(url, topology.EVENTS) as events,
        broker.consuming(subscription(ScriptedHandler())),
    ):
        await broker.publish(mail("first"), correlation_id="request-1")
        event = await events.next()

    assert (event.type, event.message_id) == ("domain.classified", "first")
    assert event.correlation_id == "request-1"
    assert event.app_id == "tests"
    assert await depth(url, QUEUE) == 0


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        ("email.send.transactional", b"\xff{", "JSON"),
        ("email.send.transactional", b'{"id": "x", "to": []}', "subject"),
        ("no.such.type", b"{}", "no contract"),
        ("code.issue", b'{"id": "x", "email": "a@example.com"}', "has no handler"),
    ],
    ids=["not JSON", "not the contract", "unknown type", "not for this queue"],
)
async def test_an_undecodable_body_goes_to_the_dead_letters(
    url: str, kind: str, body: bytes, reason: str
) -> None:
    """Poison ends in the dead letters with its reason, byte by byte; its neighbour is handled."""
    async with (
        Broker.connect(url, "tests") as broker,
        tapped(url, topology.DEAD) as dead,
        tapped(url, topology.EVENTS) as events,
        broker.consuming(subscription(ScriptedHandler(), prefetch=1)),
    ):
        await publish_raw(url, QUEUE, body, kind)
        await broker.publish(mail("neighbour"))
        letter = await dead.next()
        neighbour = await events.next()

    assert letter.body == body
    assert letter.headers[delivery.CAUSE] == "undecodable"
    assert letter.headers[delivery.ORIGIN] == QUEUE
    assert reason in str(letter.headers[delivery.REASON])
    assert neighbour.message_id == "neighbour"
    assert await depth(url, DEAD_QUEUE) == 1


@pytest.mark.parametrize(
    "failure",
    [
        Retry("later"),
        Retry("later", after=15.0),
        RuntimeError("defect"),
        asyncio.CancelledError(),
        None,
    ],
    ids=["Retry", "Retry with a delay", "defect", "cancelled from inside", "no result"],
)
async def test_a_failed_message_comes_back_after_a_delay(
    url: str, failure: BaseException | None
) -> None:
    """A handler that fails gets the message again after a delay; others pass it meanwhile."""
    handler = ScriptedHandler(failure)
    async with (
        Broker.connect(url, "tests") as broker,
        tapped(url, topology.EVENTS) as events,
        broker.consuming(subscription(handler)),
    ):
        await broker.publish(mail("first"))
        await broker.publish(mail("neighbour"))
        done = await ids(events, 2)

    assert sorted(map(str, done)) == ["first", "neighbour"]
    assert handler.seen.count("first") == 2
    assert await depth(url, QUEUE) == 0


async def test_a_handler_has_a_time_limit(url: str) -> None:
    """A handler that hangs is cut off at its limit and its message comes back."""
    attempts: list[str] = []

    async def hang_once(command: SendEmail) -> Sequence[Contract]:
        attempts.append(command.id)
        if len(attempts) == 1:
            await asyncio.Event().wait()
        return [fact(command.id)]

    async with (
        Broker.connect(url, "tests") as broker,
        tapped(url, topology.EVENTS) as events,
        broker.consuming(subscription(hang_once, limit=0.05)),
    ):
        await broker.publish(mail("first"))
        await events.next()

    assert len(attempts) == 2


async def dead_letter(url: str, handler: ScriptedHandler) -> AbstractIncomingMessage:
    """Publish a mail to a handler that fails, and return the dead letter that it becomes."""
    async with (
        Broker.connect(url, "tests") as broker,
        tapped(url, topology.DEAD) as dead,
        broker.consuming(subscription(handler)),
    ):
        await broker.publish(mail("first"))
        return await dead.next()


async def test_a_rejected_message_goes_to_the_dead_letters(url: str) -> None:
    """Reject is final: dead letters with the handler's reason, no second try."""
    handler = ScriptedHandler(Reject("never"))
    letter = await dead_letter(url, handler)

    assert (letter.headers[delivery.CAUSE], letter.headers[delivery.REASON]) == (
        "rejected",
        "never",
    )
    assert handler.seen == ["first"]


async def test_attempts_end_in_the_dead_letters(url: str) -> None:
    """A message that always fails is tried so many times and no more."""
    handler = ScriptedHandler(*(Retry("again", after=1.0) for _ in range(99)))
    letter = await dead_letter(url, handler)

    assert letter.headers[delivery.CAUSE] == "exhausted"
    assert letter.headers[delivery.ATTEMPT] == retry.MAX_ATTEMPTS
    assert len(handler.seen) == retry.MAX_ATTEMPTS


async def test_headers_of_publishers_are_not_copied(url: str) -> None:
    """A copy carries our headers and the trace alone: a forged x-death would drop it on 3.x."""
    headers = {"x-death": "forged", "x-first-death-queue": "forged", "traceparent": "00-1-2-01"}
    message = aio_pika.Message(b"{}", type="no.such.type", headers=dict(headers))
    async with (
        Broker.connect(url, "tests") as broker,
        tapped(url, topology.DEAD) as dead,
        broker.consuming(subscription(ScriptedHandler())),
    ):
        async with await aio_pika.connect(url) as connection, connection.channel() as channel:
            await channel.default_exchange.publish(message, QUEUE)
        letter = await dead.next()

    assert letter.headers["traceparent"] == "00-1-2-01"
    assert not {"x-death", "x-first-death-queue"} & set(letter.headers)


async def test_a_rescheduled_message_replaces_the_first(url: str) -> None:
    """`Reschedule` returns a message to its queue after a delay, with the asker's address."""

    async def shrink(command: SendEmail) -> Sequence[Contract | Reschedule]:
        if command.attempt == 1:
            return [fact("deferred"), Reschedule(command.model_copy(update={"attempt": 2}), 5)]
        return [fact("done")]

    async with (
        Broker.connect(url, "tests") as broker,
        broker.consuming(subscription(shrink)),
        broker.request_stream(mail("first")) as replies,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        said = [(await replies.get()).id, (await replies.get()).id]

    assert said == ["deferred", "done"]


@pytest.mark.restarts
async def test_a_restart_of_the_broker_loses_nothing(rabbit: Node, url: str) -> None:
    """Work in flight at a restart, work waiting and work that comes after are all done."""
    started, release = asyncio.Event(), asyncio.Event()

    async def wait_for_release(command: SendEmail) -> Sequence[Contract]:
        started.set()
        await release.wait()
        return [fact(command.id)]

    sent = [f"m{number}" for number in range(40)]
    async with (
        Broker.connect(url, "tests") as broker,
        broker.consuming(subscription(wait_for_release)),
    ):
        await asyncio.gather(*(broker.publish(mail(name)) for name in sent))
        await started.wait()
        await asyncio.to_thread(rabbit.restart)
        async with tapped(url, topology.EVENTS) as events:
            release.set()
            done: set[str | None] = set()
            while done < set(sent):
                done.add((await events.next(40)).message_id)
        assert await broker.ready()

    assert done == set(sent)
    assert await depth(url, QUEUE) == 0
    assert await depth(url, DEAD_QUEUE) == 0


async def test_a_cut_connection_loses_nothing(url: str) -> None:
    """Deliveries whose channel was cut are handled to their end and delivered again."""
    started, release = asyncio.Semaphore(0), asyncio.Event()

    async def wait_for_release(command: SendEmail) -> Sequence[Contract]:
        started.release()
        await release.wait()
        return [fact(command.id)]

    sent = [f"m{number}" for number in range(8)]
    async with (
        Proxy.to(urlsplit(url).port or 0) as proxy,
        tapped(url, topology.EVENTS) as events,
        Broker.connect(url.replace(f":{urlsplit(url).port}/", f":{proxy.port}/"), "t") as broker,
        broker.consuming(subscription(wait_for_release)),
    ):
        await asyncio.gather(*(broker.publish(mail(name)) for name in sent))
        for _ in range(4):
            await started.acquire()
        proxy.cut()
        await started.acquire()  # delivered again, over a new connection
        release.set()
        done: set[str | None] = set()
        while done < set(sent):
            done.add((await events.next(20)).message_id)

    assert done == set(sent)
    assert await depth(url, QUEUE) == 0


async def test_a_consumer_cancelled_by_the_broker_comes_back(url: str) -> None:
    """A queue that is deleted and declared again is consumed again, by itself."""
    async with (
        Broker.connect(url, "tests") as broker,
        tapped(url, topology.EVENTS) as events,
        broker.consuming(subscription(ScriptedHandler())),
    ):
        async with await aio_pika.connect(url) as connection, connection.channel() as channel:
            await channel.queue_delete(QUEUE)
        await until(lambda: has_no_consumer(broker))
        await rabbitmq.declare(url, topology.EXCHANGES, topology.queues(scale=0.001))
        await broker.publish(mail("after"))
        done = await ids(events, 1)

    assert done == ["after"]


async def test_shutdown_finishes_what_is_in_flight(url: str) -> None:
    """Leaving the block lets a running handler end, and takes no more from the queue."""
    started, release = asyncio.Event(), asyncio.Event()

    async def wait_for_release(command: SendEmail) -> Sequence[Contract]:
        started.set()
        await release.wait()
        return [fact(command.id)]

    async def end_it() -> None:
        await started.wait()
        await broker.publish(mail("second"))
        release.set()

    async with Broker.connect(url, "tests") as broker, tapped(url, topology.EVENTS) as events:
        async with broker.consuming(subscription(wait_for_release, prefetch=1)):
            await broker.publish(mail("first"))
            await end_it()
        done = await ids(events, 1)

    assert done == ["first"]
    assert await depth(url, QUEUE) <= 1  # the second is done or still there, never lost


async def test_what_outlasts_the_shutdown_is_delivered_again(url: str) -> None:
    """A handler that does not end in time is cancelled; its message goes to the next consumer."""
    started = asyncio.Event()

    async def hang(command: SendEmail) -> Sequence[Contract]:
        started.set()
        await asyncio.Event().wait()
        return [fact(command.id)]

    async with tapped(url, topology.EVENTS) as events:
        async with Broker.connect(url, "old") as old:
            async with old.consuming(subscription(hang), drain=0.05):
                await old.publish(mail("first"))
                await started.wait()
            assert events.empty()
        async with (
            Broker.connect(url, "new") as new,
            new.consuming(subscription(ScriptedHandler())),
        ):
            done = await ids(events, 1)

    assert done == ["first"]


async def test_results_wait_for_a_broker_that_does_not_take_them(url: str) -> None:
    """A result that cannot be published is tried until it is confirmed; nothing is lost."""
    handler = ScriptedHandler()
    async with (
        Broker.connect(url, "tests") as broker,
        tapped(url, topology.DEAD) as dead,
    ):
        async with await aio_pika.connect(url) as connection, connection.channel() as channel:
            await channel.exchange_delete(topology.EVENTS)
            async with broker.consuming(subscription(handler)):
                await broker.publish(mail("first"))
                await handler.called.wait()
                await rabbitmq.declare(url, topology.EXCHANGES, topology.queues(scale=0.001))
                async with tapped(url, topology.EVENTS) as events:
                    done = await ids(events, 1)
        assert dead.empty()

    assert done == ["first"]
    assert handler.seen == ["first"]
