"""A channel by itself: what it says and what it makes of what is said, frame by frame."""

import asyncio
from typing import Any

import pytest
from pamqp import commands
from pamqp.base import Frame

from shared.amqp import channel as module
from shared.amqp import wire
from shared.amqp.channel import Incoming
from shared.amqp.errors import Closed, Returned
from shared.amqp.properties import Properties
from tests.shared.amqp.line import NUMBER, Line, delivery, head, settled

pytestmark = pytest.mark.usefixtures("complaints")

DECLARE = commands.Queue.Declare(queue="q")
DECLARED = commands.Queue.DeclareOk("q", 3, 0)


@pytest.fixture
async def line() -> Line:
    """Open a channel on a line of its own."""
    return Line()


async def consuming(line: Line, took: list[Incoming]) -> module.Consumption:
    """Consume into a list."""
    task = asyncio.create_task(line.channel.consume("q", took.append))
    await settled(task)
    line.hear(commands.Basic.ConsumeOk(line.said[-1].consumer_tag))
    return await task


async def test_questions_are_asked_one_after_the_other(line: Line) -> None:
    """An answer says not what it answers: the next question waits for it."""
    first = asyncio.create_task(line.channel.call(DECLARE))
    second = asyncio.create_task(line.channel.call(commands.Basic.Qos(prefetch_count=1)))
    await settled(second)
    assert line.names == ["Queue.Declare"]

    line.hear(DECLARED)
    assert (await first).message_count == 3
    await settled(second)
    line.hear(commands.Basic.QosOk())
    assert (await second).name == "Basic.QosOk"


async def test_a_question_that_is_cut_off_closes_the_channel(line: Line) -> None:
    """Its answer, which is still to come, would be taken for that of the next."""
    asking = asyncio.create_task(line.channel.call(DECLARE))
    await settled(asking)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert line.names == ["Queue.Declare", "Channel.Close"]
    with pytest.raises(Closed, match="cut off"):
        await line.channel.call(DECLARE)
    line.hear(DECLARED)
    assert line.free == []
    line.hear(commands.Channel.CloseOk())
    assert line.free == [NUMBER]


async def test_a_farewell_that_is_cut_off_is_not_said_again(line: Line) -> None:
    """The second answer could come to another channel of that number."""
    closing = asyncio.create_task(line.channel.close())
    await settled(closing)
    closing.cancel()
    await asyncio.wait([closing])

    assert line.names == ["Channel.Close"]
    assert line.free == []
    line.hear(commands.Channel.CloseOk())
    assert line.free == [NUMBER]


async def test_a_farewell_that_was_not_said_is_not_answered(line: Line) -> None:
    """Cut off while it waits for its turn; what the broker closes then is free at once."""
    asking = asyncio.create_task(line.channel.call(DECLARE))
    closing = asyncio.create_task(line.channel.close())
    await settled(closing)
    closing.cancel()
    await asyncio.wait([closing])

    line.hear(commands.Channel.Close(404, "NOT_FOUND", 60, 40))

    with pytest.raises(Closed, match="NOT_FOUND"):
        await asking
    assert line.free == [NUMBER]


async def test_a_question_that_waits_for_its_turn_can_be_cut_off(line: Line) -> None:
    """It was not asked yet, so nothing is amiss."""
    first = asyncio.create_task(line.channel.call(DECLARE))
    second = asyncio.create_task(line.channel.call(DECLARE))
    await settled(first)
    second.cancel()
    await asyncio.wait([second])

    line.hear(DECLARED)

    assert (await first).queue == "q"
    assert line.channel.closed is None


async def test_a_question_has_a_limit_of_time(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that has got stuck holds nobody for ever; the channel is given up."""
    monkeypatch.setattr(module, "CALL_SECONDS", 0.01)

    with pytest.raises(Closed, match=r"no answer to Queue.Declare in 0.01 s"):
        await line.channel.call(DECLARE)

    assert line.names == ["Queue.Declare", "Channel.Close"]


async def test_a_question_that_no_frame_holds_is_not_asked(line: Line) -> None:
    """And the channel is as it was."""
    with pytest.raises(ValueError, match=r"255|length"):
        await line.channel.get("q" * 256)

    assert not line.said
    assert line.channel.closed is None


async def test_a_message_is_handed_over_whole(line: Line) -> None:
    """Of any number of frames, each as soon as its last has come, in order."""
    took: list[Incoming] = []
    await consuming(line, took)

    line.hear(delivery(1), head(7, message_id="m1"), b"one", b"", b"-t")
    assert not took
    line.hear(b"wo", delivery(2), head(0), delivery(3), head(1), b"x")

    assert [(each.tag, each.body) for each in took] == [(1, b"one-two"), (2, b""), (3, b"x")]
    assert took[0].properties.message_id == "m1"
    assert took[0].routing_key == "key"
    assert took[0].channel is line.channel


async def test_a_message_may_come_before_the_answer(line: Line) -> None:
    """The broker may begin before it has said that it will."""
    took: list[Incoming] = []
    task = asyncio.create_task(line.channel.consume("q", took.append))
    await settled(task)

    line.hear(delivery(1), head(1), b"x", commands.Basic.ConsumeOk(f"{NUMBER}.1"))
    await task

    assert [each.tag for each in took] == [1]


@pytest.mark.parametrize(
    "frames",
    [
        [(wire.HEADER, head(1).marshal())],
        [(wire.BODY, b"x")],
        [(wire.METHOD, b"\0\x3c\0\x3c\0")],
        [(wire.METHOD, b"\xff\xff\xff\xff")],
        [(wire.METHOD, b"\0\x3c")],
        [(wire.HEARTBEAT, b"")],
        [(99, b"")],
    ],
    ids=["a header", "a body", "half a method", "no method", "no number", "a heartbeat", "a type"],
)
async def test_what_comes_out_of_turn_is_refused(
    line: Line, frames: list[tuple[int, bytes]]
) -> None:
    """The connection ends for it: who speaks so is no broker."""
    *before, (kind, payload) = frames
    for each in before:
        line.channel.take(*each)

    with pytest.raises(Closed):
        line.channel.take(kind, payload)


async def test_a_body_before_its_header_is_refused(line: Line) -> None:
    """It is not taken for a message without properties."""
    line.hear(delivery(1))
    with pytest.raises(Closed, match="out of turn"):
        line.hear(b"x")


async def test_two_headers_are_refused(line: Line) -> None:
    """One message has one."""
    line.hear(delivery(1), head(5), b"x")
    with pytest.raises(Closed, match="out of turn"):
        line.hear(head(5))


async def test_a_body_longer_than_announced_is_refused(line: Line) -> None:
    """What follows cannot be trusted either."""
    line.hear(delivery(1), head(2), b"x")
    with pytest.raises(Closed, match="longer"):
        line.hear(b"yz")


async def test_a_body_that_is_not_wanted_is_dropped_as_it_comes(line: Line) -> None:
    """Its consumer learns of it by its size; messages beside it are whole (issue 10, A2)."""
    took: list[Incoming] = []
    task = asyncio.create_task(
        line.channel.consume("q", took.append, wants=lambda kind, size: (kind, size) != ("big", 4))
    )
    await settled(task)
    line.hear(commands.Basic.ConsumeOk(line.said[-1].consumer_tag))
    await task

    line.hear(delivery(1), head(4, message_type="big"), b"ab", b"cd")
    line.hear(delivery(2), head(4), b"abcd")
    line.channel.reject(1)

    assert [(each.body, each.size, each.is_unread) for each in took] == [
        (b"", 4, True),
        (b"abcd", 4, False),
    ]
    assert (line.said[-1].name, line.said[-1].requeue) == ("Basic.Nack", False)


async def test_a_failing_taker_ends_nothing(line: Line, complaints: list[dict[str, Any]]) -> None:
    """A defect met with one message is told; those after it are handed over."""
    took: list[int] = []

    def take(message: Incoming) -> None:
        if message.tag == 1:
            raise RuntimeError("a defect")
        took.append(message.tag)

    task = asyncio.create_task(line.channel.consume("q", take))
    await settled(task)
    line.hear(commands.Basic.ConsumeOk(f"{NUMBER}.1"), delivery(1), head(0), delivery(2), head(0))
    await task

    assert took == [2]
    assert [str(each["exception"]) for each in complaints] == ["a defect"]
    complaints.clear()


async def test_a_consumer_that_the_broker_ends_is_told(line: Line) -> None:
    """The queue was deleted, say; a message that was under way is not ours any more."""
    took: list[Incoming] = []
    consumption = await consuming(line, took)

    line.hear(commands.Basic.Cancel(consumption.tag, nowait=True), delivery(1), head(0))

    assert consumption.ended.is_set()
    assert not took
    assert line.channel.closed is None


async def test_a_consumer_that_is_cancelled_takes_what_comes_before_the_answer(line: Line) -> None:
    """The broker has counted it as delivered."""
    took: list[Incoming] = []
    consumption = await consuming(line, took)
    task = asyncio.create_task(line.channel.cancel(consumption))
    await settled(task)

    line.hear(delivery(1), head(0), commands.Basic.CancelOk(consumption.tag))
    await task

    assert [each.tag for each in took] == [1]
    assert consumption.ended.is_set()


async def test_one_message_can_be_fetched(line: Line) -> None:
    """Or none, when the queue is empty."""
    task = asyncio.create_task(line.channel.get("q"))
    await settled(task)
    line.hear(commands.Basic.GetOk(9, False, "", "q", 0), head(2), b"ab")  # noqa: FBT003 -- pamqp's
    fetched = await task
    assert fetched is not None
    assert (fetched.tag, fetched.body) == (9, b"ab")

    task = asyncio.create_task(line.channel.get("q"))
    await settled(task)
    line.hear(commands.Basic.GetEmpty())
    assert await task is None


async def test_a_publishing_is_a_method_a_header_and_a_body(line: Line) -> None:
    """In frames of the agreed size, and nothing of another message between them."""
    props = Properties(message_id="m1")
    confirm = line.channel.publish(b"x" * 150, props, "e", "k", mandatory=True)

    assert line.names == ["Basic.Publish", "ContentHeader", "ContentBody", "ContentBody"]
    assert line.said[0].mandatory
    assert line.said[1].body_size == 150
    line.hear(commands.Basic.Ack(1))
    await confirm


async def test_a_publishing_that_no_frame_holds_is_not_counted(line: Line) -> None:
    """The broker numbers only what it got."""
    for props, key in (
        (Properties(message_id="m" * 256), "k"),
        (Properties(), "k" * 256),
        (Properties(headers={"a": "x" * 100}), "k"),
    ):
        with pytest.raises(ValueError, match=r"255|properties"):
            line.channel.publish(b"", props, "e", key, mandatory=False)
    assert not line.said

    confirm = line.channel.publish(b"", Properties(), "e", "k", mandatory=False)
    line.hear(commands.Basic.Ack(1))
    await confirm


async def test_a_return_tells_its_publisher(line: Line) -> None:
    """By the id, which is all that the broker sends back of it with exchange and key."""
    props = Properties(message_id="m1")
    event = line.channel.publish(b"", props, "events", "k", mandatory=False)
    command = line.channel.publish(b"x", props, "commands", "k", mandatory=True)

    line.hear(commands.Basic.Return(312, "NO_ROUTE", "commands", "k"))
    line.hear(head(1, message_id="m1"), b"x", commands.Basic.Ack(2, multiple=True))

    with pytest.raises(Returned, match="312 NO_ROUTE"):
        await command
    await event


async def test_the_broker_s_farewell_ends_all_that_waits(line: Line) -> None:
    """Questions, publishers and consumers are told why; the number is free."""
    consumption = await consuming(line, [])
    confirm = line.channel.publish(b"", Properties(), "e", "k", mandatory=False)
    asking = asyncio.create_task(line.channel.call(DECLARE))
    await settled(asking)

    line.hear(commands.Channel.Close(404, "NOT_FOUND - no exchange", 60, 40))

    assert line.names[-1] == "Channel.CloseOk"
    assert line.free == [NUMBER]
    assert consumption.ended.is_set()
    for waiting in (confirm, asking):
        with pytest.raises(Closed, match="NOT_FOUND") as caught:
            await waiting
    assert caught.value.code == 404


async def test_nothing_is_said_on_a_closed_channel(line: Line) -> None:
    """Its number may be another's by now."""
    line.hear(commands.Channel.Close(406, "PRECONDITION_FAILED", 60, 80))
    line.said.clear()

    for act in (
        lambda: line.channel.publish(b"", Properties(), "e", "k", mandatory=False),
        lambda: line.channel.ack(1),
    ):
        with pytest.raises(Closed, match="PRECONDITION_FAILED"):
            act()
    with pytest.raises(Closed):
        await line.channel.call(DECLARE)
    await line.channel.close()

    assert not line.said


@pytest.mark.parametrize("ours_first", [True, False], ids=["ours first", "theirs first"])
async def test_a_number_is_free_when_both_have_closed(line: Line, *, ours_first: bool) -> None:
    """Where both close at once, the broker still answers: on a new channel that would be amiss."""
    closing = asyncio.create_task(line.channel.close())
    await settled(closing)
    if ours_first:
        line.hear(commands.Channel.CloseOk())
        await closing
    else:
        line.hear(commands.Channel.Close(404, "NOT_FOUND", 60, 40))
        with pytest.raises(Closed, match="NOT_FOUND"):
            await closing
        assert line.free == []
        line.hear(commands.Channel.CloseOk())

    assert line.free == [NUMBER]


@pytest.mark.parametrize(
    "method",
    [DECLARED, commands.Basic.QosOk(), commands.Basic.GetEmpty(), commands.Confirm.SelectOk()],
    ids=lambda method: str(method.name),
)
async def test_an_answer_that_nobody_asked_for_is_nothing(line: Line, method: Frame) -> None:
    """As one that comes after its question was given up."""
    line.hear(method)

    assert not line.said


async def test_the_end_is_told_once(line: Line) -> None:
    """The first reason is the true one."""
    line.channel.fail(Closed("cut"))
    line.channel.fail(Closed("closed"))

    assert str(line.channel.closed) == "cut"
