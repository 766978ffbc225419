"""Batches on a real broker: many at once, and each of them settled as if it were alone."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import ClassVar
from urllib.parse import urlsplit

import pytest

from shared import batches as batches_module
from shared import delivery, topology
from shared.batches import Batches, Batching
from shared.broker import Broker
from shared.contracts import Contract, SendEmail, encode
from shared.delivery import Delivery, Publishing
from shared.errors import Retry, Unavailable
from tests.proxy import Proxy
from tests.shared.book import Book
from tests.shared.messages import KIND, QUEUE, fact, mail
from tests.shared.pile import BAD, Pile
from tests.shared.ticket import Ticket
from tests.tap import Tap, depth, publish_raw, tapped
from tests.waiting import until

SECONDS = 20.0  # that a test waits for anything

Handler = Callable[[Sequence[SendEmail]], Awaitable[Sequence[Contract]]]


def batches(handler: Handler, most: int = 4, seconds: float = 0.5, limit: float = 10) -> Batches:
    """Return a subscription of the test's queue."""
    return Batches(QUEUE, (SendEmail,), Pile, handler, 3 * most, most, seconds, limit)


async def ids(tap: Tap, count: int) -> list[str]:
    """Give the ids of the next `count` messages."""
    return [str((await tap.next(SECONDS)).message_id) for _ in range(count)]


async def publish(door: Broker, names: Sequence[str]) -> None:
    """Put messages into the queue, in their order."""
    for name in names:
        await door.publish(mail(name))


async def is_empty(url: str, queue: str = QUEUE) -> None:
    """Wait until nothing is in a queue."""

    async def empty() -> bool:
        return await depth(url, queue) == 0

    await until(empty)


def numbered(count: int) -> list[str]:
    """Give ids in order."""
    return [f"m{number:03}" for number in range(count)]


async def test_many_are_handled_at_once_and_in_order(url: str) -> None:
    """As many as the subscription says, as they came; all results out, all acknowledged."""
    book, names = Book(), numbered(42)
    async with Broker.connect(url, "tests") as door, tapped(url, topology.EVENTS) as events:
        await publish(door, names)
        async with door.consuming(batches(book, most=10)):
            done = await ids(events, 42)

    assert sorted(done) == names
    assert book.names == names
    assert max(map(len, book.calls)) == 10
    await is_empty(url)


async def test_a_batch_that_does_not_fill_is_handled(url: str) -> None:
    """After its seconds; one message waits no longer for others."""
    book = Book()
    async with (
        Broker.connect(url, "tests") as door,
        tapped(url, topology.EVENTS) as events,
        door.consuming(batches(book, most=100)),
    ):
        await publish(door, ["alone"])
        assert await ids(events, 1) == ["alone"]

    assert book.calls == [["alone"]]


async def test_a_batch_waits_for_no_more_than_may_come(url: str) -> None:
    """Where the prefetch is smaller than a batch, it is the size of one."""
    book = Book()
    small = Batches(QUEUE, (SendEmail,), Pile, book, prefetch=3, most=100, seconds=SECONDS * 9)
    async with Broker.connect(url, "tests") as door, tapped(url, topology.EVENTS) as events:
        await publish(door, numbered(6))
        async with door.consuming(small):
            assert await ids(events, 6) == numbered(6)

    assert book.calls == [numbered(6)[:3], numbered(6)[3:]]


async def test_long_messages_make_short_batches(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is full when it has so many octets, whatever it might hold in messages."""
    monkeypatch.setattr(batches_module, "OCTETS", 2 * len(encode(mail("m0"))))
    monkeypatch.setattr(batches_module, "TURN_OCTETS", 1)
    book = Book()
    async with Broker.connect(url, "tests") as door, tapped(url, topology.EVENTS) as events:
        await publish(door, numbered(7))
        async with door.consuming(batches(book, most=100, seconds=0.2)):
            assert await ids(events, 7) == numbered(7)

    assert [len(call) for call in book.calls] == [2, 2, 2, 1]


async def test_what_cannot_be_decoded_goes_alone(url: str) -> None:
    """To the dead letters, byte by byte; its neighbours are handled."""
    book = Book()
    async with (
        Broker.connect(url, "tests") as door,
        tapped(url, topology.EVENTS) as events,
        tapped(url, topology.DEAD) as dead,
    ):
        await publish(door, ["before"])
        await publish_raw(url, QUEUE, b"\xff{", KIND)
        await publish_raw(url, QUEUE, encode(fact("f")), "domain.classified")
        await publish(door, ["after"])
        async with door.consuming(batches(book)):
            done = await ids(events, 2)
            letters = [await dead.next() for _ in range(2)]

    assert sorted(done) == ["after", "before"]
    assert b"\xff{" in [each.body for each in letters]
    assert {each.headers[delivery.CAUSE] for each in letters} == {"undecodable"}
    await is_empty(url)


async def test_a_batch_of_nothing_but_noise_is_settled(url: str) -> None:
    """The handler does not hear of it."""
    book = Book()
    async with Broker.connect(url, "tests") as door, tapped(url, topology.DEAD) as dead:
        for _ in range(3):
            await publish_raw(url, QUEUE, b"noise", KIND)
        async with door.consuming(batches(book)):
            assert [(await dead.next()).body for _ in range(3)] == [b"noise"] * 3

    assert not book.calls
    await is_empty(url)


async def test_one_bad_message_takes_no_neighbour_with_it(url: str) -> None:
    """What is refused while it is gathered is dead; all others are handled."""
    book = Book()
    async with (
        Broker.connect(url, "tests") as door,
        tapped(url, topology.EVENTS) as events,
        tapped(url, topology.DEAD) as dead,
    ):
        await publish(door, ["m0", "m1", BAD, "m3"])
        async with door.consuming(batches(book)):
            done = await ids(events, 3)
            letter = await dead.next()

    assert sorted(done) == ["m0", "m1", "m3"]
    assert (letter.message_id, letter.headers[delivery.REASON]) == (BAD, "this one never")
    assert book.calls == [["m0", "m1", "m3"]]
    await is_empty(url)


@pytest.mark.parametrize(
    "failure",
    [Retry("later"), Retry("later", after=5.0), RuntimeError("defect"), asyncio.CancelledError()],
    ids=["Retry", "Retry with a wish", "defect", "cancelled from inside"],
)
async def test_a_failure_is_that_of_all(url: str, failure: BaseException) -> None:
    """They come again through the ladder, each by itself; none is lost, none is dead."""
    book = Book(failure)
    async with (
        Broker.connect(url, "tests") as door,
        tapped(url, topology.EVENTS) as events,
        tapped(url, topology.DEAD) as dead,
    ):
        await publish(door, numbered(4))
        async with door.consuming(batches(book)):
            done = await ids(events, 4)

    assert sorted(done) == numbered(4)
    assert book.calls[0] == numbered(4)
    assert sorted(book.names[4:]) == numbered(4)
    assert dead.empty()
    await is_empty(url)


async def test_what_was_gathered_in_vain_is_not_lost(url: str) -> None:
    """A gathering that fails at its end is a failure of all that it took in."""

    class Broken(Pile):
        """Fails once."""

        left: ClassVar = [RuntimeError("a defect")]

        async def close(self) -> None:
            """Raise what is left."""
            if self.left:
                raise self.left.pop()

    book = Book()
    subscription = replace(batches(book), gather=Broken)
    async with Broker.connect(url, "tests") as door, tapped(url, topology.EVENTS) as events:
        await publish(door, numbered(4))
        async with door.consuming(subscription):
            assert sorted(await ids(events, 4)) == numbered(4)

    assert sorted(book.names) == numbered(4)
    await is_empty(url)


async def test_what_is_done_is_let_go_of() -> None:
    """Before the next but one is read; what a failed handler may still be at work with stays."""
    piles: list[Pile] = []

    def gather() -> Pile:
        piles.append(Pile())
        return piles[-1]

    book = Book(RuntimeError("a defect"))
    batching = Batching(replace(batches(book, most=1), gather=gather), taken)
    for name in numbered(5):
        batching.take(arrived(name), Ticket())
    await batching.drain(SECONDS)

    assert [len(each) for each in piles] == [1, 0, 0, 1, 1]


async def taken(_: Publishing) -> None:
    """Confirm whatever is published."""


async def test_a_result_that_cannot_be_sent_is_a_failure(url: str) -> None:
    """As an answer, which has no exchange: the messages are not lost for it."""
    calls: list[int] = []

    async def answer_once(commands: Sequence[SendEmail]) -> Sequence[Contract]:
        calls.append(len(commands))
        if len(calls) == 1:
            return [None]  # type: ignore[list-item]
        return [fact(each.id) for each in commands]

    async with Broker.connect(url, "tests") as door, tapped(url, topology.EVENTS) as events:
        await publish(door, numbered(2))
        async with door.consuming(batches(answer_once)):
            assert sorted(await ids(events, 2)) == numbered(2)

    await is_empty(url)


async def test_a_handler_has_a_time_limit(url: str) -> None:
    """One call that hangs is cut off, and its messages come again."""
    calls: list[int] = []

    async def hang_once(commands: Sequence[SendEmail]) -> Sequence[Contract]:
        calls.append(len(commands))
        if len(calls) == 1:
            await asyncio.Event().wait()
        return [fact(each.id) for each in commands]

    async with Broker.connect(url, "tests") as door, tapped(url, topology.EVENTS) as events:
        await publish(door, numbered(3))
        async with door.consuming(batches(hang_once, limit=0.05)):
            assert sorted(await ids(events, 3)) == numbered(3)

    await is_empty(url)


async def test_a_time_out_of_the_handler_s_own_is_a_defect(url: str) -> None:
    """It is not taken for the limit of the call."""
    book = Book(TimeoutError("of a database"))
    async with Broker.connect(url, "tests") as door, tapped(url, topology.EVENTS) as events:
        await publish(door, ["m1"])
        async with door.consuming(batches(book)):
            assert await ids(events, 1) == ["m1"]

    assert book.names == ["m1", "m1"]


async def test_shutdown_handles_what_has_come(url: str) -> None:
    """Without waiting for more; what has not come stays in its queue; nothing is done twice."""
    release, book = asyncio.Event(), Book()

    async def wait(commands: Sequence[SendEmail]) -> Sequence[Contract]:
        done = await book(commands)
        await release.wait()
        return done

    async with Broker.connect(url, "tests") as door, tapped(url, topology.EVENTS) as events:
        await publish(door, numbered(20))
        async with door.consuming(batches(wait, most=4, seconds=SECONDS * 9)):
            await book.called.wait()
            asyncio.get_running_loop().call_soon(release.set)
        handled = list(book.names)
        assert sorted(await ids(events, len(handled))) == handled
        async with door.consuming(batches(book)):
            rest = await ids(events, 20 - len(handled))

    assert 4 <= len(handled) < 20
    assert sorted([*handled, *rest]) == numbered(20)
    assert sorted(book.names) == numbered(20)
    await is_empty(url)


async def test_what_outlasts_the_shutdown_goes_back(url: str) -> None:
    """The batch that hangs is cut off, those that wait are not begun; all come again."""

    async def hang(commands: Sequence[SendEmail]) -> Sequence[Contract]:
        await book(commands)
        await asyncio.Event().wait()
        return []

    book, after = Book(), Book()
    async with tapped(url, topology.EVENTS) as events, Broker.connect(url, "tests") as door:
        await publish(door, numbered(10))
        async with door.consuming(batches(hang), drain=0.05):
            await book.called.wait()
        assert events.empty()
        async with door.consuming(batches(after)):
            assert sorted(await ids(events, 10)) == numbered(10)

    assert book.names == numbered(4)
    assert sorted(after.names) == numbered(10)
    await is_empty(url)


async def test_a_cut_in_the_middle_of_a_batch_loses_nothing(url: str) -> None:
    """It is handled to its end, and comes again by the new connection, as those that waited."""
    release, book = asyncio.Event(), Book()

    async def wait(commands: Sequence[SendEmail]) -> Sequence[Contract]:
        done = await book(commands)
        await release.wait()
        return done

    async with (
        Proxy.to(urlsplit(url).port or 0) as proxy,
        tapped(url, topology.EVENTS) as events,
        Broker.connect(url.replace(f":{urlsplit(url).port}/", f":{proxy.port}/"), "t") as door,
        door.consuming(batches(wait)),
    ):
        await publish(door, numbered(10))
        await book.called.wait()
        proxy.cut()
        await until(door.ready)
        release.set()
        done: set[str] = set()
        while done < set(numbered(10)):
            done.update(await ids(events, 1))

    assert done == set(numbered(10))
    await is_empty(url)


async def test_results_wait_for_a_broker_that_does_not_take_them() -> None:
    """Nothing is acknowledged before; only what was not taken is said again."""
    sent: list[str] = []
    ticket = Ticket()

    async def send(item: Publishing) -> None:
        assert not ticket.said
        sent.append(item.message_id)
        if sent.count(item.message_id) == 1 and item.message_id == "m001":
            raise Unavailable("not now")

    batching = Batching(batches(Book(), most=2), send)
    for name in numbered(2):
        batching.take(arrived(name), ticket)
    await batching.drain(SECONDS)

    assert sorted(sent) == ["m000", "m001", "m001"]
    assert ticket.said == [("ack", True)]


async def test_a_defect_of_our_own_is_not_acknowledged_by_the_next_batch() -> None:
    """What could not be settled goes back, before another batch is acknowledged as a whole."""
    ticket, sent = Ticket(), list[str]()

    async def send(item: Publishing) -> None:
        sent.append(item.message_id)
        if item.message_id == "m000":
            raise RuntimeError("a defect of the seam")

    batching = Batching(batches(Book(), most=1), send)
    for name in numbered(2):
        batching.take(arrived(name), ticket)
    await batching.drain(SECONDS)

    assert sent == ["m000", "m001"]
    assert ticket.said == [("requeue", True), ("ack", True)]


def arrived(name: str) -> Delivery:
    """Give a delivery as it came."""
    return Delivery(QUEUE, KIND, encode(mail(name)), name, name, None, 1, {})
