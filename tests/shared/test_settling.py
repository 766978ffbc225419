"""Settling: what was done is published until it is kept, and only then acknowledged."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from shared import delivery, settling, topology
from shared.delivery import Delivery, Publishing
from shared.errors import Reject, Retry, Unavailable, Undecodable
from shared.identity import USER
from shared.retry import MAX_ATTEMPTS
from shared.settling import acknowledge, failed, give_back, published
from tests.shared.ticket import Ticket

MESSAGE = Delivery(
    queue="sender.bulk",
    type="email.send.bulk",
    body=b"{}",
    message_id="m1",
    correlation_id="c1",
    reply_to=None,
    attempt=1,
    trace={},
)


def item(name: str, *, persistent: bool = True) -> Publishing:
    """Give a result."""
    return Publishing("mail.events", "k", "k", b"", name, name, persistent=persistent)


class Road:
    """Takes what is sent, when a test's list of failures has none for it any more."""

    def __init__(
        self, ticket: Ticket, *, failures: Sequence[str] = (), void_after: int = 99
    ) -> None:
        self._ticket = ticket
        self._failures = list(failures)
        self._void_after = void_after
        self.tries: list[str] = []

    async def send(self, result: Publishing) -> None:
        """Fail as often as told."""
        self.tries.append(result.message_id)
        self._ticket.void = len(self.tries) >= self._void_after
        if result.message_id in self._failures:
            self._failures.remove(result.message_id)
            raise Unavailable("away")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(settling, "REPUBLISH_SECONDS", 0)


@pytest.fixture
def ticket() -> Ticket:
    """Give a receipt whose channel is there."""
    return Ticket()


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b", "c"]], ids=len)
async def test_all_is_published_once(ticket: Ticket, names: list[str]) -> None:
    """Nothing, one, or many."""
    road = Road(ticket)

    assert await published([item(name) for name in names], ticket, road.send)
    assert sorted(road.tries) == names


async def test_what_is_not_taken_is_tried_again(ticket: Ticket) -> None:
    """It alone: what was confirmed is not said twice."""
    road = Road(ticket, failures=["b", "b", "c"])

    assert await published([item(name) for name in "abc"], ticket, road.send)
    assert [road.tries.count(name) for name in "abc"] == [1, 3, 2]


async def test_a_message_that_has_been_taken_back_is_let_go(ticket: Ticket) -> None:
    """Somebody else does it again, and publishes its results."""
    road = Road(ticket, failures=["a"] * 99, void_after=3)

    assert not await published([item("a")], ticket, road.send)
    assert road.tries == ["a"] * 3


async def test_results_that_were_taken_count_although_the_channel_went(ticket: Ticket) -> None:
    """There is nothing left to try; the acknowledgement is lost, and the message comes again."""
    road = Road(ticket, void_after=1)

    assert await published([item("a")], ticket, road.send)
    acknowledge(ticket)
    assert not ticket.said


async def test_an_asker_who_is_gone_holds_nothing_up(ticket: Ticket) -> None:
    """An answer is worth nothing later."""
    road = Road(ticket, failures=["reply"])

    assert await published([item("reply", persistent=False)], ticket, road.send)
    assert road.tries == ["reply"]


async def test_publishing_can_be_cut_off(ticket: Ticket) -> None:
    """While it is tried again and again; nothing is acknowledged for it."""
    road = Road(ticket, failures=["a"] * 10_000)
    task = asyncio.create_task(published([item("a")], ticket, road.send))
    await asyncio.sleep(0)
    assert road.tries
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert not ticket.said


@pytest.mark.parametrize("multiple", [False, True])
def test_what_is_done_is_acknowledged(ticket: Ticket, *, multiple: bool) -> None:
    """One, or all up to it."""
    acknowledge(ticket, multiple=multiple)

    assert ticket.said == [("ack", multiple)]


@pytest.mark.parametrize("void", [False, True])
def test_what_cannot_be_settled_is_given_back(ticket: Ticket, *, void: bool) -> None:
    """Unless the broker has it already."""
    ticket.void = void

    give_back(ticket, RuntimeError("a defect"), multiple=True)

    assert ticket.said == [] if void else [("requeue", True)]


@pytest.mark.parametrize(
    ("error", "name", "reason"),
    [
        (Undecodable("no JSON"), "undecodable", "no JSON"),
        (Reject("never"), "rejected", "never"),
    ],
)
def test_what_is_final_goes_to_the_dead_letters(error: Exception, name: str, reason: str) -> None:
    """At the first attempt, with its reason."""
    end = failed(MESSAGE, error)
    (copy,) = end.publishings

    assert (end.name, end.count) == (name, 1)
    assert copy.exchange == topology.DEAD
    assert copy.headers[delivery.REASON] == reason


@pytest.mark.parametrize(
    "error",
    [Retry("later"), Retry("later", after=99.0), ValueError("s3cret"), asyncio.CancelledError()],
    ids=["Retry", "a wish", "a defect", "cancelled within"],
)
def test_what_may_pass_comes_again(error: BaseException) -> None:
    """Through the ladder, one attempt further."""
    end = failed(MESSAGE, error)
    (copy,) = end.publishings

    assert end.name == "again"
    assert copy.exchange.startswith("delay.")
    assert copy.headers == {USER: "", delivery.ATTEMPT: 2}


def test_a_defect_tells_nothing_to_the_queues() -> None:
    """Its text may hold what was in the message; its kind is enough for a header."""
    last = replace(MESSAGE, attempt=MAX_ATTEMPTS)
    (copy,) = failed(last, ValueError("s3cret")).publishings

    assert copy.headers[delivery.CAUSE] == "exhausted"
    assert copy.headers[delivery.REASON] == "ValueError"
