"""One delivery at a time, without a broker: its results, its settlement, its end."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from shared import consumer as module
from shared import delivery, topology
from shared.consumer import Consumer, Subscription
from shared.contracts import (
    Contract,
    SendEmail,
    VerifyCode,
)
from shared.delivery import Delivery, Publishing
from shared.errors import DatabaseAway, Reject, Retry, Unavailable
from shared.identity import USER
from shared.retry import MAX_ATTEMPTS
from tests.shared.consuming import (
    Publisher,
    arrived,
    asked,
    commands,
    facts,
    is_settled,
    questions,
    raising,
    recovering,
    settled,
)
from tests.shared.messages import QUEUE
from tests.shared.tag import RecordingTag
from tests.waiting import PATIENCE_SECONDS, until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(module, "REPUBLISH_SECONDS", 0)
    monkeypatch.setattr(module, "DATABASE_SECONDS", 0)


@pytest.mark.parametrize("id_", ["a", "abc"])
async def test_all_results_are_published_once(id_: str) -> None:
    """One event or many, each once, before the one acknowledgement."""
    publish = Publisher()
    tag = await settled(commands(facts, publish), arrived(id_))

    assert sorted(publish.ids) == sorted(id_)
    assert tag.settled == ["ack"]


async def test_an_unconfirmed_result_is_tried_again() -> None:
    """Only that result: a confirmed one is not published twice."""
    publish = Publisher("b", "b", "c")
    tag = await settled(commands(facts, publish), arrived("abc"))

    assert [publish.ids.count(id_) for id_ in "abc"] == [1, 3, 2]
    assert tag.settled == ["ack"]


async def test_results_of_a_lost_delivery_are_given_up() -> None:
    """The broker has delivered the message to another consumer, which publishes its results."""
    tag, ended = RecordingTag(), asyncio.Event()

    class Cut(Publisher):
        """Fails for ever; the channel goes at the third try."""

        async def __call__(self, message: Publishing) -> None:
            """Count the try."""
            self.tried.append(message)
            tag.void = len(self.tried) >= 3
            ended.set()
            raise Unavailable("away")

    publish = Cut()
    consumer = commands(facts, publish)
    consumer.take(arrived("a"), tag)
    await ended.wait()
    await consumer.drain(PATIENCE_SECONDS)

    assert publish.ids == ["a"] * 3
    assert not tag.settled


async def test_a_channel_that_closes_before_the_acknowledgement() -> None:
    """The results are confirmed, so nothing is tried; the message comes again."""
    tag, confirmed = RecordingTag(), asyncio.Event()

    class Cut(Publisher):
        """Confirms, and loses the channel."""

        async def __call__(self, message: Publishing) -> None:
            """Confirm."""
            await super().__call__(message)
            tag.void = True
            confirmed.set()

    publish = Cut()
    consumer = commands(facts, publish)
    consumer.take(arrived("a"), tag)
    await confirmed.wait()
    await consumer.drain(PATIENCE_SECONDS)

    assert publish.ids == ["a"]
    assert not tag.settled


async def test_publishing_can_be_cut_off() -> None:
    """A consumer that is cut while it tries again and again acknowledges nothing."""
    publish, tag = Publisher(*["a"] * 100_000), RecordingTag()
    consumer = commands(facts, publish)
    consumer.take(arrived("a"), tag)

    async def is_tried() -> bool:
        return len(publish.tried) > 1

    await until(is_tried)
    await consumer.cut()

    assert tag.settled == ["requeue"]


@pytest.mark.parametrize(
    ("message", "error", "cause", "reason"),
    [
        (asked("q"), None, "undecodable", "otp.questions has no handler for code.verify"),
        (arrived("m"), Reject("never"), "rejected", "never"),
        (arrived("m", MAX_ATTEMPTS), Retry("away"), "exhausted", "away"),
        # A text may hold what was in the message; its kind is enough for a header.
        (arrived("m", MAX_ATTEMPTS), ValueError("s3cret"), "exhausted", "ValueError"),
    ],
)
async def test_a_final_failure_is_a_dead_letter(
    message: Delivery, error: Exception | None, cause: str, reason: str
) -> None:
    """A dead letter has its cause and reason, is confirmed, and only then acknowledged."""
    publish = Publisher(message.message_id)
    tag = await settled(commands(raising(error) if error else facts, publish), message)
    copy = publish.tried[-1]

    assert len(publish.tried) == 2
    assert copy.exchange == topology.DEAD
    assert (copy.headers[delivery.CAUSE], copy.headers[delivery.REASON]) == (cause, reason)
    assert tag.settled == ["ack"]


@pytest.mark.parametrize(
    "error",
    [Retry("later"), Retry("later", after=99.0), ValueError("s3cret"), asyncio.CancelledError()],
    ids=["Retry", "a requested delay", "a defect", "cancelled within"],
)
async def test_what_may_pass_comes_again(error: BaseException) -> None:
    """A copy goes to a delay queue, one attempt further."""
    publish = Publisher()
    tag = await settled(commands(raising(error), publish), arrived("m"))
    (copy,) = publish.tried

    assert copy.exchange.startswith("delay.")
    assert copy.headers == {USER: "", delivery.ATTEMPT: 2}
    assert tag.settled == ["ack"]


async def test_an_outage_of_the_database_uses_up_no_attempt() -> None:
    """A delivery waits in place, and is handled once the database answers, without a delay."""
    publish = Publisher()
    handler = recovering([DatabaseAway("refused")] * 2 * MAX_ATTEMPTS)
    with capture_logs() as logs:
        tag = await settled(commands(handler, publish), arrived("a"))

    assert publish.ids == ["a"]
    assert publish.tried[0].exchange == topology.EVENTS
    assert tag.settled == ["ack"]
    assert [each["event"] for each in logs] == ["waiting for the database"]


async def test_an_outage_longer_than_the_time_limit_is_an_attempt() -> None:
    """A delivery is not held until the broker's consumer time-out closes the channel."""
    publish = Publisher()
    handler = raising(DatabaseAway("refused"))
    subscription = Subscription(QUEUE, {SendEmail: handler}, 8, limit_seconds=0.01)
    await settled(Consumer(subscription, publish), arrived("m"))

    assert [each.headers[delivery.ATTEMPT] for each in publish.tried] == [2]


async def test_a_delivery_that_waits_for_the_database_goes_back_at_the_end() -> None:
    """A service ends at once during an outage, and the broker has the message for another."""
    tag, is_tried = RecordingTag(), asyncio.Event()

    async def handle(_: SendEmail) -> Sequence[Contract]:
        is_tried.set()
        raise DatabaseAway("refused")

    consumer = commands(handle, publish := Publisher())
    consumer.take(arrived("m"), tag)
    await is_tried.wait()
    await asyncio.sleep(0)  # by now it waits
    await consumer.drain(PATIENCE_SECONDS)

    assert not publish.tried
    assert tag.settled == ["requeue"]


async def test_a_question_does_not_wait_for_the_database() -> None:
    """Its asker has gone by then."""

    async def handle(_: VerifyCode) -> Sequence[Contract]:
        raise DatabaseAway("refused")

    publish = Publisher()
    subscription = Subscription(topology.OTP_QUESTIONS, {VerifyCode: handle}, 8, retries=False)
    tag = await settled(Consumer(subscription, publish), asked("q"))

    assert not publish.tried
    assert tag.settled == ["ack"]


async def test_a_time_out_of_the_handler_s_own_is_a_defect() -> None:
    """A TimeoutError of the handler is no expired time limit."""
    publish = Publisher()
    with capture_logs() as logs:
        await settled(commands(raising(TimeoutError("of a database")), publish), arrived("m"))

    assert [each["reason"] for each in logs if each["event"] == "comes again"] == ["TimeoutError"]


@pytest.mark.parametrize("void", [False, True])
async def test_a_defect_of_our_own_gives_the_message_back(*, void: bool) -> None:
    """The delivery is requeued, so that it does not keep its place in the prefetch."""
    tag, failed = RecordingTag(), asyncio.Event()

    class Defect(Publisher):
        """Fails by an unexpected error."""

        async def __call__(self, message: Publishing) -> None:
            """Fail."""
            tag.void = void
            failed.set()
            raise RuntimeError(f"a defect with {message.message_id}")

    consumer = commands(facts, Defect())
    consumer.take(arrived("m"), tag)
    await failed.wait()
    await consumer.drain(PATIENCE_SECONDS)

    assert tag.settled == ([] if void else ["requeue"])


async def test_a_question_is_answered() -> None:
    """The event goes out and its copy to the asker, with the correlation id of the question."""
    publish = Publisher()
    tag = await settled(questions(publish), asked("q"))

    assert publish.answers == ["to-q"]
    assert {each.correlation_id for each in publish.tried} == {"q"}
    assert [each.exchange for each in publish.tried] == ["", topology.EVENTS]
    assert tag.settled == ["ack"]


@pytest.mark.parametrize(
    "message",
    [
        asked("bad"),
        asked("strange", b'{"id": "x"}'),
        asked("c", b'{"id": "c", "challenge_id": "c"}', "code.cancel"),
    ],
    ids=["refused", "unreadable", "another contract"],
)
async def test_a_failed_question_ends_unanswered(message: Delivery) -> None:
    """It is not tried again and leaves no dead letter, which could hold a code."""
    publish = Publisher()
    with capture_logs() as logs:
        tag = await settled(questions(publish), message)

    assert not publish.tried
    assert [each["event"] for each in logs] == ["not answered"]
    assert tag.settled == ["ack"]


async def test_a_question_has_a_time_limit() -> None:
    """A handler that hangs is cancelled, and no answer is sent."""

    async def hang(_: VerifyCode) -> Sequence[Contract]:
        return await asyncio.Future()

    publish = Publisher()
    subscription = Subscription(
        topology.OTP_QUESTIONS, {VerifyCode: hang}, 8, limit_seconds=0.01, retries=False
    )
    tag = await settled(Consumer(subscription, publish), asked("q"))

    assert not publish.tried
    assert tag.settled == ["ack"]


async def test_a_reply_is_tried_once() -> None:
    """An answer is tried once; the question is done with."""
    publish = Publisher("to-q")
    tag = await settled(questions(publish), asked("q"))

    assert publish.answers == ["to-q"]
    assert tag.settled == ["ack"]


async def test_queues_of_one_subscription_share_its_places() -> None:
    """At most `prefetch` messages are handled at a time, however many queues deliver, in turn."""
    going, running, order = asyncio.Semaphore(0), list[int](), list[str]()

    async def handle(command: SendEmail) -> Sequence[Contract]:
        running.append(1)
        assert len(running) <= 2
        await going.acquire()
        running.pop()
        order.append(command.id)
        return []

    shards = ["sender.transactional.0", "sender.transactional.1"]
    consumer = Consumer(Subscription(QUEUE, {SendEmail: handle}, 2, shards=shards), Publisher())
    tags = []
    for queue, ids in zip(shards, ("abcdef", "x"), strict=True):
        for id_ in ids:
            tags.append(RecordingTag())
            consumer.take(replace(arrived(id_), queue=queue), tags[-1])
    for _ in tags:
        going.release()
    for tag in tags:
        await is_settled(tag)

    assert order == list("abcxdef")
    assert [tag.settled for tag in tags] == [["ack"]] * 7


async def test_messages_that_wait_for_a_place_go_back_at_the_end() -> None:
    """A service that ends begins none of them; the broker has them for another consumer at once."""

    async def hang(_: SendEmail) -> Sequence[Contract]:
        return await asyncio.Future()

    subscription = Subscription(QUEUE, {SendEmail: hang}, 1, shards=["sender.transactional.0"])
    consumer, tags = Consumer(subscription, Publisher()), [RecordingTag() for _ in range(3)]
    for number, tag in enumerate(tags):
        consumer.take(arrived(f"m{number}"), tag)
    await consumer.drain(0)

    assert [tag.settled for tag in tags] == [["requeue"]] * 3
