"""The broker of a service on RabbitMQ: publishes are kept, and questions are answered."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import pytest

from ops.broker import RabbitServer as Node
from shared import rabbitmq, topology
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import (
    Category,
    Contract,
    DescribeDomain,
    DomainClassified,
    DomainDescribed,
    FeedbackReported,
    Kind,
    Sighting,
    Verdict,
    encode,
)
from shared.delivery import Delivery, Jitter, failed
from shared.errors import NoAnswer, NoQueue, Unavailable
from shared.rabbitmq.publisher import PUBLISH_SECONDS
from tests.proxy import Proxy
from tests.shared.messages import KIND, QUEUE, mail
from tests.tap import depth, publish_raw, tapped
from tests.waiting import PATIENCE_SECONDS, until

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
CODES = topology.sending_queue(Category.OTP)
BOUNCE = Sighting(id="s1", domain="example.com", kind=Kind.BOUNCED, at=MOMENT)


async def describe(question: DescribeDomain) -> Sequence[Contract]:
    """Answer as the classifier would."""
    return [
        DomainDescribed(
            id=question.id, domain=question.domain, status=Verdict.UNKNOWN, delivered=7, bounced=0
        )
    ]


ANSWERS = Subscription(topology.CLASSIFIER_QUESTIONS, {DescribeDomain: describe}, 4, retries=False)


@pytest.fixture
async def url(vhost: str) -> str:
    """Declare the whole topology, with delays a hundred times shorter."""
    await rabbitmq.declare(vhost, topology.EXCHANGES, topology.queues(scale=0.01))
    return vhost


@pytest.fixture
async def proxy(url: str) -> AsyncIterator[Proxy]:
    """Open a proxy to the broker, whose connections a test can cut."""
    async with Proxy.to(urlsplit(url).port or 0) as way:
        yield way


def through(proxy: Proxy, url: str) -> str:
    """Return the URL of the broker through the proxy."""
    return url.replace(f":{urlsplit(url).port}/", f":{proxy.port}/")


async def publish_when_back(broker: Broker, message: Contract) -> None:
    """Publish as a client that retries does, for at most half a minute."""

    async def published() -> bool:
        try:
            await broker.publish(message)
        except Unavailable:
            return False
        return True

    await until(published)


async def test_a_confirmed_command_is_on_its_queue(url: str) -> None:
    """When `publish` returns, the queue of the message's class holds it, persistent."""
    async with Broker.connect(url, "tests") as broker:
        await broker.publish(mail("m1"))

    assert await depth(url, QUEUE) == 1


async def test_an_unroutable_command_is_refused(url: str) -> None:
    """A command is Unavailable without its sending queue, although the ledger's takes a copy."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        await channel.queue_delete(QUEUE)

    async with Broker.connect(url, "tests") as broker:
        with pytest.raises(Unavailable, match=f"no queue {QUEUE}"):
            await broker.publish(mail("m1"))
        await broker.publish(mail("m2").model_copy(update={"category": Category.BULK}))


async def test_an_event_needs_no_queue(url: str) -> None:
    """An event without a binding is published all the same."""
    event = DomainClassified(id="e1", at=MOMENT, domain="example.com", status=Verdict.UNKNOWN)

    async with Broker.connect(url, "tests") as broker:
        await broker.publish(event)


async def test_feedback_must_reach_a_queue(url: str) -> None:
    """Feedback is refused when no queue takes it: its sender gets a 202 only for what is kept."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        await channel.queue_delete(topology.EVIDENCE)

    async with Broker.connect(url, "tests") as broker:
        with pytest.raises(NoQueue, match="no queue takes the message"):
            await broker.publish(FeedbackReported(id="f1", at=MOMENT, sightings=(BOUNCE,)))


async def test_a_full_queue_refuses(vhost: str) -> None:
    """A queue at its length limit refuses the publish; what was confirmed before stays."""
    (sender,) = (queue for queue in topology.queues() if queue.name == QUEUE)
    short = topology.Queue(
        QUEUE, sender.owner, sender.bindings, {**sender.arguments, "x-max-length": 1}
    )
    await rabbitmq.declare(vhost, topology.EXCHANGES, [short])

    async with Broker.connect(vhost, "tests") as broker:
        # A quorum queue overshoots its limit by what is in flight.
        answers = await asyncio.gather(
            *(broker.publish(mail(f"m{number}")) for number in range(20)), return_exceptions=True
        )
        with pytest.raises(Unavailable):
            await broker.publish(mail("late"))

    assert await depth(vhost, QUEUE) == answers.count(None)


async def test_a_full_queue_keeps_no_code_from_coming_again(vhost: str) -> None:
    """A message that a delay queue cannot hand on does not hold up a code."""
    limited = [
        topology.Queue(each.name, each.owner, each.bindings, {**each.arguments, "x-max-length": 1})
        if each.name == QUEUE
        else each
        for each in topology.queues(scale=0.001)
    ]
    await rabbitmq.declare(vhost, topology.EXCHANGES, limited)
    soon = Jitter(0.5, 0.5)
    async with Broker.connect(vhost, "tests") as broker:
        for name, queue in [*((f"m{n}", QUEUE) for n in range(100)), ("code", CODES)]:
            here = Delivery(queue, KIND, encode(mail(name)), name, name, None, 1, {})
            await broker.send(failed(here, "later", 0, soon, MOMENT))

    async def is_back() -> bool:
        return await depth(vhost, CODES) == 1

    await until(is_back)


async def test_publishing_goes_on_after_a_missing_exchange(vhost: str) -> None:
    """The broker closes the channel for a missing exchange; the next publish works again."""
    async with Broker.connect(vhost, "tests") as broker:
        with pytest.raises(Unavailable):
            await broker.publish(mail("m1"))
        await rabbitmq.declare(vhost, topology.EXCHANGES, topology.queues())
        await publish_when_back(broker, mail("m2"))

    assert await depth(vhost, QUEUE) == 1


async def test_a_question_is_answered(url: str) -> None:
    """The answer comes to the asker alone, decoded."""
    async with Broker.connect(url, "tests") as broker, broker.consuming(ANSWERS):
        answer = await broker.ask(
            DescribeDomain(id="q1", domain="example.com"), within=PATIENCE_SECONDS
        )

    assert answer == DomainDescribed(
        id="q1", domain="example.com", status=Verdict.UNKNOWN, delivered=7, bounced=0
    )


async def test_the_same_question_at_once_is_answered_to_each(url: str) -> None:
    """A question asked several times at once is answered each time."""
    question = DescribeDomain(id="q1", domain="example.com")
    async with Broker.connect(url, "tests") as broker, broker.consuming(ANSWERS):
        answers = await asyncio.gather(
            *(broker.ask(question, within=PATIENCE_SECONDS) for _ in range(20))
        )

    assert {answer.id for answer in answers} == {"q1"}
    assert not broker._listeners


async def test_two_hundred_questions_at_once(url: str) -> None:
    """Each asker gets the answer to its own question, and the queue is empty then."""
    names = [f"q{number}" for number in range(200)]
    async with Broker.connect(url, "tests") as broker, broker.consuming(ANSWERS):
        asked = (broker.ask(DescribeDomain(id=name, domain="a.example"), 20) for name in names)
        answers = await asyncio.gather(*asked)

    assert [answer.id for answer in answers] == names
    assert await depth(url, topology.CLASSIFIER_QUESTIONS) == 0


async def test_an_unreadable_question_ends_unanswered(url: str) -> None:
    """It leaves no dead letter, which could hold a code, and the next question is answered."""
    async with (
        Broker.connect(url, "tests") as broker,
        tapped(url, topology.DEAD) as dead,
        broker.consuming(ANSWERS),
    ):
        await publish_raw(url, topology.CLASSIFIER_QUESTIONS, b"\xff", "domain.describe")
        await broker.ask(DescribeDomain(id="q", domain="a.example"), within=PATIENCE_SECONDS)

    assert dead.empty()
    assert await depth(url, topology.CLASSIFIER_QUESTIONS) == 0


async def test_a_question_has_a_deadline(url: str) -> None:
    """Without a consumer of questions, asking raises NoAnswer after the deadline."""
    async with Broker.connect(url, "tests") as broker:
        with pytest.raises(NoAnswer):
            await broker.ask(DescribeDomain(id="q1", domain="example.com"), within=0.05)


async def test_questions_are_answered_after_a_cut(url: str, proxy: Proxy) -> None:
    """A cut connection costs the questions under way; later ones are answered."""

    async def answered() -> bool:
        try:
            await broker.ask(DescribeDomain(id="q1", domain="a.example"), within=1)
        except (Unavailable, NoAnswer):
            return False
        return True

    async with (
        Broker.connect(through(proxy, url), "tests") as broker,
        Broker.connect(url, "other") as other,
        other.consuming(ANSWERS),
    ):
        proxy.cut()
        await until(answered)


@pytest.mark.restarts
async def test_a_broker_that_is_away_refuses_in_bounded_time(rabbit: Node, url: str) -> None:
    """While the broker is down a publish fails within its limit; when it is back it works."""
    clock = asyncio.get_running_loop().time
    async with Broker.connect(url, "tests") as broker:
        await asyncio.to_thread(rabbit.stop)
        begun = clock()
        with pytest.raises(Unavailable):
            await broker.publish(mail("m1"))
        waited = clock() - begun
        was_ready = await broker.ready()
        await asyncio.to_thread(rabbit.start)
        await publish_when_back(broker, mail("m2"))

    assert PUBLISH_SECONDS - 1 < waited < PATIENCE_SECONDS
    assert not was_ready
    assert await depth(url, QUEUE) >= 1


async def test_a_wrong_login_is_an_error_at_once(url: str) -> None:
    """A refused login is an error at once, and the password is not in its text."""
    wrong = url.replace(urlsplit(url).password or "", "wr0ng")

    with pytest.raises(Unavailable, match="refuses the login") as caught:
        async with Broker.connect(wrong, "tests"):
            pass

    assert "wr0ng" not in str(caught.value)


async def test_an_address_without_a_broker_is_an_error_in_time() -> None:
    """An address that does not answer is an error after the given time, without the password."""
    async with Proxy.to(1) as gone:
        port = gone.port

    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}") as caught:
        async with Broker.connect(f"amqp://me:s3cret@127.0.0.1:{port}/", "tests", patience=0):
            pass

    assert "s3cret" not in str(caught.value)


STRANGE: tuple[dict[str, Any], ...] = (
    {"headers": {"traceparent": "0" * 130_000}},
    {"headers": {"traceparent": ["00"], "tracestate": {"a": 1}, "x-attempt": "many"}},
    {"headers": {"deep": {"er": [{"and": {"de": ["e", "p", "er"]}}]}, "none": None}},
    {"headers": {"many": list(range(30_000))}},
    {"message_id": "é" * 127, "correlation_id": "c" * 255, "reply_to": "r" * 255},
    {"priority": 255, "expiration": 3600, "content_encoding": "gzip", "content_type": "?"},
    {"delivery_mode": aio_pika.DeliveryMode.NOT_PERSISTENT, "timestamp": 0, "app_id": ""},
)


async def test_no_message_of_a_publisher_ends_the_connection(url: str) -> None:
    """Properties too large for a frame are dropped; all messages become dead letters unchanged."""
    async with Broker.connect(url, "tests") as broker, tapped(url, topology.DEAD) as dead:
        ways = [broker._publishing, broker._consuming]
        async with broker.consuming(Subscription(QUEUE, {}, prefetch=4)):
            async with await aio_pika.connect(url) as theirs, theirs.channel() as channel:
                for number, properties in enumerate(STRANGE):
                    message = aio_pika.Message(b"%d" % number, type="no.such.type", **properties)
                    await channel.default_exchange.publish(message, QUEUE)
            letters = [await dead.next() for _ in STRANGE]

        assert sorted(each.body for each in letters) == [b"%d" % each for each in range(7)]
        assert {each.type for each in letters} == {"no.such.type"}
        assert [way._lost.is_set() for way in ways] == [False, False]


@pytest.mark.parametrize("queue", ["missing", "q" * 256, "\0"], ids=["missing", "long", "odd"])
async def test_a_queue_that_cannot_be_read_is_an_error(url: str, queue: str) -> None:
    """Its channel does not stay open."""
    async with Broker.connect(url, "tests") as broker:
        with pytest.raises(Unavailable, match="cannot read"):
            async with broker.browsing(queue):
                pass
        channel = await broker._consuming.channel()

        assert channel.number == 1
