"""Deliveries in batches: one call handles many, and none takes its neighbours with it."""

import asyncio
from collections.abc import Sequence

import pytest

from shared import batch_consumer, delivery, topology
from shared.batch_consumer import BatchConsumer
from shared.consumer import MAX_GROUP_BYTES, PAUSE_ITERATIONS, Subscription
from shared.contracts import SendEmail, encode
from shared.contracts.message import MAX_SMALL_BYTES
from shared.delivery import Delivery, Publishing
from shared.errors import Reject, Retry
from tests.shared.messages import KIND, QUEUE, mail
from tests.shared.tag import RecordingTag
from tests.waiting import until

SECONDS = 20.0  # a time limit that no test reaches
SIZE = 4  # of a batch


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no further deliveries."""
    monkeypatch.setattr(batch_consumer, "FIRST_BATCH_SECONDS", 0)
    monkeypatch.setattr(batch_consumer, "BATCH_SECONDS", 0)


class Served:
    """A consumer, the batches and single messages that it handled, and what it published."""

    def __init__(self, limit: float = SECONDS, wrong: str = "", error: str = "") -> None:
        self.wrong = wrong  # the id of the message that fails its batch
        self.error = error
        self.batches: list[Sequence[str]] = []
        self.single: list[str] = []
        self.published: list[Publishing] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        subscription = Subscription(QUEUE, {SendEmail: self._handle}, 100, limit, group_size=SIZE)
        self.consumer = BatchConsumer(subscription, self._publish, self._handle_batch)

    def given(self, *ids: str, size: int = 0) -> list[RecordingTag]:
        """Pass deliveries to the consumer, all at once; return their tags."""
        tags = [RecordingTag() for _ in ids]
        for id_, tag in zip(ids, tags, strict=True):
            body = b"{" if id_ == "unreadable" else encode(mail(id_))
            self.consumer.take(Delivery(QUEUE, KIND, body.ljust(size), id_, id_, None, 1, {}), tag)
        return tags

    async def _handle_batch(self, commands: Sequence[SendEmail]) -> None:
        names = [each.id for each in commands]
        self.batches.append(names)
        await self.may_go_on.wait()
        if self.wrong in names:
            self._fail()

    async def _handle(self, command: SendEmail) -> Sequence[SendEmail]:
        self.single.append(command.id)
        if self.wrong == command.id:
            self._fail()
        return ()

    def _fail(self) -> None:
        errors = {"rejected": Reject("no"), "again": Retry("later"), "defect": KeyError("x")}
        raise errors.get(self.error, asyncio.CancelledError())

    async def _publish(self, message: Publishing) -> None:
        self.published.append(message)


async def settled(tags: Sequence[RecordingTag]) -> None:
    """Wait until all deliveries are settled."""

    async def found() -> bool:
        return all(tag.settled for tag in tags)

    await until(found)


async def begun(served: Served) -> None:
    """Wait until a batch is being handled."""

    async def found() -> bool:
        return bool(served.batches)

    await until(found)


async def test_all_are_handled_in_order_and_acknowledged() -> None:
    """Every delivery is handled once, in full batches, and then acknowledged."""
    served, names = Served(), [f"m{number}" for number in range(10)]
    tags = served.given(*names)
    await settled(tags)

    assert served.batches == [names[:4], names[4:8], names[8:]]
    assert not served.single
    assert [tag.settled for tag in tags] == [["ack"]] * 10


async def test_nothing_is_acknowledged_before_its_batch_is_handled() -> None:
    """An acknowledgement follows the commit of the whole batch."""
    served = Served()
    served.may_go_on.clear()
    tags = served.given("a", "b")
    await begun(served)
    assert [tag.settled for tag in tags] == [[], []]

    served.may_go_on.set()
    await settled(tags)


@pytest.mark.parametrize("error", ["rejected", "again", "defect", "cancelled"])
async def test_a_batch_that_fails_is_handled_one_by_one(error: str) -> None:
    """Only the message at fault ends as its handler says; the others are done."""
    served = Served(wrong="bad", error=error)
    tags = served.given("a", "bad", "b", "c")
    await settled(tags)

    assert served.single == ["a", "bad", "b", "c"]
    assert [tag.settled for tag in tags] == [["ack"]] * 4
    [ended] = served.published
    assert ended.message_id == "bad"
    assert (ended.exchange == topology.DEAD) == (error == "rejected")


async def test_a_message_that_cannot_be_decoded_is_a_dead_letter() -> None:
    """Its neighbours are handled in their batch."""
    served = Served()
    tags = served.given("a", "unreadable", "b")
    await settled(tags)

    assert served.batches == [["a", "b"]]
    [dead] = served.published
    assert (dead.message_id, dead.headers[delivery.CAUSE]) == ("unreadable", "undecodable")
    assert [tag.settled for tag in tags] == [["ack"]] * 3


async def test_a_batch_of_undecodable_messages_is_not_handled() -> None:
    """The handler of batches is called with messages alone."""
    served = Served()
    await settled(served.given("unreadable", "unreadable"))

    assert not served.batches
    assert len(served.published) == 2


async def test_a_batch_that_hangs_is_handled_one_by_one() -> None:
    """The time limit ends the batch."""
    served = Served(limit=0.05)
    served.may_go_on.clear()
    tags = served.given("a", "b")
    await settled(tags)

    assert served.single == ["a", "b"]
    assert [tag.settled for tag in tags] == [["ack"]] * 2


async def test_large_bodies_are_handled_alone() -> None:
    """Few of them fit into memory: they do not wait for a batch."""
    served = Served()
    await settled(served.given("large", size=MAX_SMALL_BYTES + 1))

    assert served.single == ["large"]
    assert not served.batches


async def test_decoding_leaves_time_for_others() -> None:
    """A question is read, handled, answered and sent between two parts of a batch."""
    served, turns = Served(), 0
    loop = asyncio.get_running_loop()

    def turn() -> None:
        nonlocal turns
        turns += 1
        if not served.batches:
            loop.call_soon(turn)

    loop.call_soon(turn)
    await settled(served.given(*(f"m{number}" for number in range(SIZE)), size=MAX_GROUP_BYTES))

    assert turns >= (SIZE - 1) * PAUSE_ITERATIONS


@pytest.mark.parametrize("is_begun", [False, True])
async def test_the_end_returns_unfinished_deliveries(*, is_begun: bool) -> None:
    """Deliveries that wait for their batch, and a batch that is not done in time, come again."""
    served = Served()
    served.may_go_on.clear()
    tags = served.given(*(f"m{number}" for number in range(SIZE + 1)))
    if is_begun:
        await begun(served)
    await served.consumer.drain(0.01)

    assert [tag.settled for tag in tags] == [["requeue"]] * (SIZE + 1)
    assert not served.single


async def test_the_end_starts_nothing_of_a_batch_that_fails() -> None:
    """Its deliveries go back to the broker."""
    served = Served(wrong="a", error="defect")
    served.may_go_on.clear()
    tags = served.given("a", "b")
    await begun(served)
    ending = asyncio.create_task(served.consumer.drain(SECONDS))
    await asyncio.sleep(0)
    served.may_go_on.set()
    await ending

    assert [tag.settled for tag in tags] == [["requeue"]] * 2
    assert not served.single


async def test_a_lost_channel_settles_nothing() -> None:
    """The broker delivers all of the batch again."""
    served = Served()
    served.may_go_on.clear()
    tags = served.given("a", "b")
    await begun(served)
    for tag in tags:
        tag.void = True
    served.may_go_on.set()
    await served.consumer.drain(SECONDS)

    assert [tag.settled for tag in tags] == [[], []]


async def test_a_lost_channel_holds_no_delivery_of_another() -> None:
    """In a batch of two channels, all that can be acknowledged is acknowledged."""
    served = Served()
    served.may_go_on.clear()
    tags = served.given("a", "b")
    await begun(served)
    tags[0].void = True
    served.may_go_on.set()
    await settled(tags[1:])
    await served.consumer.drain(SECONDS)

    assert [tag.settled for tag in tags] == [[], ["ack"]]
