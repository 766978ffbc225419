"""Questions: many in a call, each answered to its asker, none tried again, none lost."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from shared import topology
from shared.broker import Broker
from shared.contracts import CodeRefused, Contract, VerifyCode, encode
from shared.delivery import Delivery, Publishing
from shared.errors import NoAnswer, Reject, Retry, Unavailable
from shared.identity import Identity
from shared.questions import Answering, Questions
from tests.shared.ticket import Ticket
from tests.tap import depth, publish_raw, tapped
from tests.waiting import until

SECONDS = 20.0  # that a test waits for anything
GATEWAY = Identity("gateway", names_clients=True)
QUEUE = topology.OTP_QUESTIONS
BAD = "bad"
NOW = datetime(2026, 1, 1, tzinfo=UTC)

Handler = Callable[[Sequence[VerifyCode]], Awaitable[Sequence[Sequence[Contract]]]]


def question(name: str) -> VerifyCode:
    """Give a question with the given id."""
    return VerifyCode(id=name, email="ada@example.com", code="123456")


def questions(handler: Handler, limit: float = SECONDS) -> Questions:
    """Give a subscription."""
    return Questions(QUEUE, (VerifyCode,), handler, 100, limit)


class Oracle:
    """A handler that answers each question by its id, and fails as a test says."""

    def __init__(self, *failures: Exception | None) -> None:
        self._failures = list(failures)
        self.calls: list[list[str]] = []
        self.called = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def __call__(self, asked: Sequence[VerifyCode]) -> Sequence[Sequence[Contract]]:
        """Answer, or fail for a question that is bad or as long as there are failures."""
        names = [each.id for each in asked]
        self.calls.append(names)
        self.called.set()
        await self.may_go_on.wait()
        failure = self._failures.pop(0) if self._failures else None
        if failure is not None:
            raise failure
        if BAD in names:
            raise Reject("this one never")
        return [[CodeRefused(id=f"to-{name}", at=NOW, email="x")] for name in names]


class Post:
    """Notes what is sent."""

    def __init__(self) -> None:
        self.sent: list[Publishing] = []

    async def send(self, item: Publishing) -> None:
        """Take it."""
        self.sent.append(item)

    @property
    def answers(self) -> list[str]:
        """The ids of the answers, in their order."""
        return [item.message_id for item in self.sent if item.routing_key == "asker"]


def delivery(name: str, body: bytes | None = None) -> Delivery:
    """Give a question as it comes from its queue."""
    body = encode(question(name)) if body is None else body
    return Delivery(QUEUE, "code.verify", body, name, name, "asker", 1, {}, GATEWAY)


async def asked(handler: Handler, *messages: Delivery) -> tuple[Post, list[Ticket]]:
    """Have some questions answered that come at once."""
    post, tickets = Post(), [Ticket() for _ in messages]
    answering = Answering(questions(handler), post.send)
    for message, ticket in zip(messages, tickets, strict=True):
        answering.take(message, ticket)
    await answering.drain(SECONDS)
    return post, tickets


async def test_what_comes_at_once_is_one_call() -> None:
    """Each answer goes to its asker and each fact out, and one acknowledgement is for all."""
    oracle = Oracle()
    post, tickets = await asked(oracle, *(delivery(f"q{number}") for number in range(3)))

    assert oracle.calls == [["q0", "q1", "q2"]]
    assert post.answers == ["to-q0", "to-q1", "to-q2"]
    assert [item.correlation_id for item in post.sent if item.routing_key == "asker"] == [
        "q0",
        "q1",
        "q2",
    ]
    assert len([item for item in post.sent if item.exchange == topology.EVENTS]) == 3
    assert [ticket.said for ticket in tickets] == [[], [], [("ack", True)]]


async def test_what_comes_meanwhile_is_the_next_call() -> None:
    """Nobody waits for a call to fill, and what comes during one is handled together."""
    oracle, post = Oracle(), Post()
    oracle.may_go_on.clear()
    answering = Answering(questions(oracle), post.send)
    answering.take(delivery("first"), Ticket())
    await oracle.called.wait()
    for name in ("second", "third"):
        answering.take(delivery(name), Ticket())
    oracle.may_go_on.set()
    await answering.drain(SECONDS)

    assert oracle.calls == [["first"], ["second", "third"]]


async def test_one_after_the_end_begins_anew() -> None:
    """Also when the last turn has only just ended."""
    oracle, post = Oracle(), Post()
    answering = Answering(questions(oracle), post.send)
    for name in ("first", "second"):
        answering.take(delivery(name), Ticket())
        await answering.drain(SECONDS)

    assert oracle.calls == [["first"], ["second"]]


async def test_one_that_cannot_be_handled_takes_no_neighbour_with_it() -> None:
    """The others are answered, it is not, and none comes again."""
    oracle = Oracle()
    post, tickets = await asked(oracle, *map(delivery, ("good", BAD, "too")))

    assert oracle.calls == [["good", BAD, "too"], ["good"], [BAD, "too"], [BAD], ["too"]]
    assert post.answers == ["to-good", "to-too"]
    assert tickets[-1].said == [("ack", True)]


async def test_one_that_cannot_be_read_takes_no_neighbour_with_it() -> None:
    """It is not answered, and leaves no dead letter: it may hold a code."""
    strange = delivery("strange", b'{"id": "x"}')
    cancel = b'{"id": "c", "challenge_id": "c"}'
    foreign = Delivery(QUEUE, "code.cancel", cancel, "c", "c", "asker", 1, {}, GATEWAY)
    post, tickets = await asked(Oracle(), strange, delivery("good"), foreign)

    assert post.answers == ["to-good"]
    assert {item.exchange for item in post.sent} == {"", topology.EVENTS}
    assert tickets[-1].said == [("ack", True)]


async def test_nobody_is_answered_while_it_cannot_be_known() -> None:
    """A failure of all is tried once and not for each; who asked asks again."""
    oracle = Oracle(Retry("the database is away"))
    post, tickets = await asked(oracle, delivery("q1"), delivery("q2"))

    assert oracle.calls == [["q1", "q2"]]
    assert not post.sent
    assert tickets[-1].said == [("ack", True)]


async def test_a_defect_answers_nobody_wrongly() -> None:
    """Too few results are nobody's answer."""

    async def too_few(asked: Sequence[VerifyCode]) -> Sequence[Sequence[Contract]]:
        return [[CodeRefused(id=f"to-{asked[0].id}", at=NOW, email="x")]]

    post, _ = await asked(too_few, delivery("q1"), delivery("q2"))

    assert post.answers == ["to-q1", "to-q2"]


async def test_a_call_has_a_limit_of_time() -> None:
    """One that hangs ends, and the next is answered."""
    oracle, post = Oracle(), Post()
    oracle.may_go_on.clear()
    answering = Answering(questions(oracle, limit=0.01), post.send)
    ticket = Ticket()
    answering.take(delivery("hangs"), ticket)

    async def is_settled() -> bool:
        return bool(ticket.said)

    await until(is_settled)
    oracle.may_go_on.set()
    answering.take(delivery("next"), Ticket())
    await answering.drain(SECONDS)

    assert post.answers == ["to-next"]


async def test_what_is_cut_off_is_not_acknowledged() -> None:
    """A service that must end leaves its questions to the broker, those that wait too, and says."""
    oracle, post = Oracle(), Post()
    oracle.may_go_on.clear()
    answering = Answering(questions(oracle), post.send)
    tickets = [Ticket(), Ticket()]
    answering.take(delivery("first"), tickets[0])
    await oracle.called.wait()
    answering.take(delivery("second"), tickets[1])
    with capture_logs() as lines:
        await answering.drain(0.01)

    assert [(line["event"], line["count"]) for line in lines] == [("left to the broker", 2)]
    assert [ticket.said for ticket in tickets] == [[], []]
    assert not post.sent


async def test_what_a_lost_channel_gave_is_not_handled() -> None:
    """It comes again over the next one."""
    oracle, post = Oracle(), Post()
    answering = Answering(questions(oracle), post.send)
    lost, ticket = Ticket(), Ticket()
    lost.void = True
    answering.take(delivery("lost"), lost)
    answering.take(delivery("there"), ticket)
    await answering.drain(SECONDS)

    assert oracle.calls == [["there"]]
    assert ticket.said == [("ack", True)]


async def test_an_asker_who_cannot_be_reached_holds_nobody_up() -> None:
    """An answer is tried once; the question is done with."""
    ticket = Ticket()

    async def send(item: Publishing) -> None:
        if item.routing_key == "asker":
            raise Unavailable("gone")

    answering = Answering(questions(Oracle()), send)
    answering.take(delivery("q"), ticket)
    await answering.drain(SECONDS)

    assert ticket.said == [("ack", True)]


async def test_two_hundred_askers_at_a_broker(url: str) -> None:
    """Everybody hears the answer to his own question, in far fewer calls; the queue is empty."""
    oracle = Oracle()
    async with (
        Broker.connect(url, "tests") as door,
        tapped(url, topology.EVENTS) as events,
        door.consuming(questions(oracle)),
    ):
        names = [f"q{number}" for number in range(200)]
        answers = await asyncio.gather(*(door.ask(question(name), SECONDS) for name in names))
        told = {str((await events.next(SECONDS)).message_id) for _ in names}

    assert [answer.id for answer in answers] == [f"to-{name}" for name in names]
    assert told == {f"to-{name}" for name in names}
    assert len(oracle.calls) < 100
    assert await depth(url, QUEUE) == 0


async def test_poison_ends_unanswered(url: str) -> None:
    """A question that nobody can read is gone, and the next is answered."""
    async with Broker.connect(url, "tests") as door, door.consuming(questions(Oracle())):
        await publish_raw(url, QUEUE, b"\xff", "code.verify")
        answer = await door.ask(question("q"), SECONDS)
        with pytest.raises(NoAnswer):
            await door.ask(question(BAD), 0.05)

    assert answer.id == "to-q"
    assert await depth(url, QUEUE) == 0
