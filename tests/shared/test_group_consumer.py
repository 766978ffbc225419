"""Deliveries in groups: each of them is handled and settled as if it were alone."""

import asyncio
from collections.abc import Sequence

import pytest

from shared import consumer as consumers
from shared import delivery, topology
from shared.consumer import MAX_GROUP_BYTES, PAUSE_ITERATIONS, GroupConsumer, Subscription
from shared.contracts import Contract, SendEmail, encode
from shared.delivery import Delivery, Publishing
from shared.errors import Reject, Retry, Unavailable
from tests.shared.messages import KIND, QUEUE, fact, mail
from tests.shared.tag import RecordingTag
from tests.waiting import until

SECONDS = 20.0  # a time limit that no test reaches
SIZE = 4  # of a group


class Handler:
    """Returns an event for each command once it may go on; some ids fail."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def called(self, times: int) -> None:
        """Wait until the handler was called so often."""

        async def found() -> bool:
            return len(self.seen) >= times

        await until(found)

    async def __call__(self, command: SendEmail) -> Sequence[Contract]:
        """Handle one command."""
        self.seen.append(command.id)
        await self.may_go_on.wait()
        if command.id == "rejected":
            raise Reject("never")
        if command.id == "again":
            raise Retry("later")
        if command.id == "hangs":
            await asyncio.Future()
        return [fact(command.id)]


class Served:
    """A consumer, its handler, and what it publishes; `full` has an exchange that confirms none."""

    def __init__(self, limit: float = SECONDS, full: str | None = None) -> None:
        self.handler = Handler()
        self.full = full
        self.published: list[Publishing] = []
        subscription = Subscription(QUEUE, {SendEmail: self.handler}, 100, limit, group_size=SIZE)
        self.consumer = GroupConsumer(subscription, self._publish)

    def given(self, *ids: str) -> list[RecordingTag]:
        """Pass deliveries to the consumer, all at once; return their tags."""
        tags = [RecordingTag() for _ in ids]
        for id_, tag in zip(ids, tags, strict=True):
            body = b"\xff{" if id_ == "unreadable" else encode(mail(id_))
            self.consumer.take(Delivery(QUEUE, KIND, body, id_, id_, None, 1, {}), tag)
        return tags

    def ids(self, exchange: str) -> list[str]:
        """Return the ids of what was published to an exchange."""
        return [each.message_id for each in self.published if each.exchange == exchange]

    async def _publish(self, message: Publishing) -> None:
        if message.exchange == self.full:
            raise Unavailable("the queue is full")
        self.published.append(message)


async def settled(tags: Sequence[RecordingTag]) -> None:
    """Wait until all deliveries are settled."""

    async def found() -> bool:
        return all(tag.settled for tag in tags)

    await until(found)


async def test_all_are_handled_in_order_and_acknowledged() -> None:
    """Every delivery is handled once, its results are published, and it is acknowledged."""
    served, names = Served(), [f"m{number}" for number in range(10)]
    tags = served.given(*names)
    await settled(tags)

    assert served.handler.seen == names
    assert served.ids(topology.EVENTS) == names
    assert [tag.settled for tag in tags] == [["ack"]] * 10


async def test_no_delivery_takes_a_neighbour_with_it() -> None:
    """In one group one is unreadable, one is rejected, one is tried again, and one is done."""
    served = Served()
    tags = served.given("unreadable", "rejected", "again", "good")
    await settled(tags)

    dead = [each for each in served.published if each.exchange == topology.DEAD]
    assert {each.message_id: each.headers[delivery.CAUSE] for each in dead} == {
        "unreadable": "undecodable",
        "rejected": "rejected",
    }
    assert [each.message_id for each in served.published if "delay" in each.exchange] == ["again"]
    assert served.ids(topology.EVENTS) == ["good"]
    assert [tag.settled for tag in tags] == [["ack"]] * 4


async def test_an_unconfirmed_result_holds_no_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the queue of dead letters is full, the others of the group are acknowledged."""
    monkeypatch.setattr(consumers, "REPUBLISH_SECONDS", 0)
    served = Served(full=topology.DEAD)
    tags = served.given("a", "rejected", "b", "unreadable")
    await settled([tags[0], tags[2]])

    assert [tag.settled for tag in tags] == [["ack"], [], ["ack"], []]
    assert served.ids(topology.EVENTS) == ["a", "b"]
    served.full = None
    await settled(tags)
    assert sorted(served.ids(topology.DEAD)) == ["rejected", "unreadable"]


async def test_the_end_returns_what_is_not_confirmed_alone() -> None:
    """At the end the deliveries with unconfirmed results go back, and no acknowledged one."""
    served = Served(full=topology.DEAD)
    tags = served.given("a", "rejected")
    await settled(tags[:1])
    await served.consumer.drain(0)

    assert [tag.settled for tag in tags] == [["ack"], ["requeue"]]


async def test_one_that_hangs_is_tried_again() -> None:
    """The time limit ends it alone; its neighbours are done."""
    served = Served(limit=0.05)
    tags = served.given("hangs", "good")
    await settled(tags)

    assert served.ids(topology.EVENTS) == ["good"]
    assert [each.message_id for each in served.published if "delay" in each.exchange] == ["hangs"]


async def test_groups_leave_time_for_others() -> None:
    """Between two groups a question is read, handled, answered and sent."""
    served, steps = Served(), list[int]()
    loop = asyncio.get_running_loop()

    def step() -> None:
        steps.append(len(served.handler.seen))
        loop.call_soon(step) if len(steps) < 100 else None

    loop.call_soon(step)
    await settled(served.given(*(f"m{number}" for number in range(3 * SIZE))))

    assert set(steps) >= {SIZE, 2 * SIZE}
    assert all(steps.count(size) >= PAUSE_ITERATIONS for size in (SIZE, 2 * SIZE))


async def test_large_bodies_make_small_groups() -> None:
    """A group is full when it has MAX_GROUP_BYTES, however few deliveries it has."""
    served = Served()
    tags = [RecordingTag() for _ in range(3)]
    for number, tag in enumerate(tags):
        body = encode(mail(f"m{number}")).ljust(MAX_GROUP_BYTES)
        served.consumer.take(Delivery(QUEUE, KIND, body, "m", "m", None, 1, {}), tag)
    seen: list[int] = []
    while len(served.handler.seen) < 3:
        await asyncio.sleep(0)
        seen.append(len(served.handler.seen))
    await settled(tags)

    assert {1, 2, 3} <= set(seen)


@pytest.mark.parametrize("begun", [False, True])
async def test_the_end_returns_unfinished_deliveries(*, begun: bool) -> None:
    """Deliveries that wait for their group, and a group that is not done in time, come again."""
    served = Served()
    served.handler.may_go_on.clear()
    tags = served.given(*(f"m{number}" for number in range(SIZE + 1)))
    if begun:
        await served.handler.called(SIZE)
    await served.consumer.drain(0.01)

    assert [tag.settled for tag in tags] == [["requeue"]] * (SIZE + 1)
    assert not served.published


async def test_a_lost_channel_settles_nothing() -> None:
    """The broker delivers all of the group again."""
    served = Served()
    served.handler.may_go_on.clear()
    tags = served.given("a", "b")
    await served.handler.called(len(tags))
    for tag in tags:
        tag.void = True
    served.handler.may_go_on.set()
    await served.consumer.drain(SECONDS)

    assert [tag.settled for tag in tags] == [[], []]


@pytest.mark.parametrize("lost", [0, 1])
async def test_a_lost_channel_does_not_hold_deliveries_of_another(lost: int) -> None:
    """In a group of two channels, all that can be acknowledged is acknowledged."""
    served = Served()
    served.handler.may_go_on.clear()
    tags = served.given("a", "b")
    await served.handler.called(len(tags))
    tags[lost].void = True
    served.handler.may_go_on.set()
    await settled([tags[1 - lost]])
    await served.consumer.drain(SECONDS)

    assert tags[1 - lost].settled == ["ack"]
    assert tags[lost].settled == []
