"""Tests of the parser, the timer and the stream, over real sockets."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.smtp.stream import (
    MAX_LINE_OCTETS,
    MAX_REPLY_OCTETS,
    MAX_TEXT_OCTETS,
    MAX_UNREAD_REPLIES,
    MalformedReply,
    ProtocolViolation,
    RawReply,
    ReplyParser,
    ResettableTimer,
    SmtpStream,
)
from tests.waiting import PATIENCE_SECONDS


@dataclass
class World:
    """A stream and the server's end of its connection."""

    stream: SmtpStream
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def read_until_the_end(stream: SmtpStream) -> list[RawReply]:
    """Return all replies until the end of the connection."""
    answers = []
    with suppress(ConnectionError):
        while True:
            answers.append(await stream.read(5))
    return answers


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Connect a stream to a server that reads nothing and sends what the test sends."""
    arrived: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_server(lambda *both: arrived.put_nowait(both), "127.0.0.1")
    _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
    reader, writer = await arrived.get()
    writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport of both ways
    stream = SmtpStream(cast("asyncio.Transport", client.transport))
    yield World(stream, reader, writer)
    stream.abort()
    writer.transport.abort()
    server.close()
    await server.wait_closed()


async def test_in_order(world: World) -> None:
    """Replies are read in their order, those that came before the call too."""
    world.writer.write(b"250 one\r\n250 two\r\n")
    answers = [await world.stream.read(5) for _ in range(2)]

    assert answers == [RawReply(250, "one"), RawReply(250, "two")]
    assert not world.stream.has_unread
    assert world.stream.is_open


async def test_said_before_the_end(world: World) -> None:
    """A reply received before the end of the connection can be read after it."""
    world.writer.write(b"421 Bye\r\n")
    world.writer.close()

    assert await read_until_the_end(world.stream) == [RawReply(421, "Bye")]
    assert not world.stream.is_open
    with pytest.raises(ConnectionError):
        world.stream.write(b"QUIT\r\n")


@pytest.mark.parametrize("said", [b"550 5.1.1 No", b"550-5.1.1 No\r\n"])
async def test_said_without_its_end(world: World, said: bytes) -> None:
    """An incomplete reply counts when the connection has ended."""
    world.writer.write(said)
    world.writer.close()

    assert await read_until_the_end(world.stream) == [RawReply(550, "5.1.1 No")]


async def test_a_reply_without_end(world: World) -> None:
    """A reply whose end is late counts, and the rest of it is no other reply."""
    world.writer.write(b"250-OK\r\n")
    answer = await world.stream.read(0.2)
    world.writer.write(b"250 and good\r\n")

    assert answer == RawReply(250, "OK")
    assert not world.stream.is_open
    with pytest.raises(ProtocolViolation):
        await world.stream.read(5)


async def test_a_flood_in_one_reply(world: World) -> None:
    """A reply without end is read up to its limit, then its code counts."""
    world.writer.write(b"250-" + b"x" * 20_000_000)
    (answer,) = await read_until_the_end(world.stream)

    assert answer.code == 250


async def test_silence(world: World) -> None:
    """`read` raises TimeoutError after its limit."""
    with pytest.raises(TimeoutError):
        await world.stream.read(0.01)


async def test_a_flood(world: World) -> None:
    """Replies without commands are not collected for ever."""
    world.writer.write(b"250 OK\r\n" * 2 * MAX_UNREAD_REPLIES)
    await read_until_the_end(world.stream)

    with pytest.raises(ProtocolViolation):
        await world.stream.read(5)


async def test_unsent(world: World) -> None:
    """`unsent` is set while the other side has not read all."""
    world.stream.write(b"x" * 20_000_000)

    assert world.stream.unsent
    with pytest.raises(TimeoutError):
        await world.stream.drain(0.01)


async def test_drained(world: World) -> None:
    """`drain` returns when the other side has read all."""
    world.stream.write(b"x" * 20_000_000)
    world.writer.transport.resume_reading()  # type: ignore[attr-defined] # as above
    await world.reader.readexactly(20_000_000)
    await world.stream.drain(5)

    assert not world.stream.unsent


async def test_a_reply_in_between(world: World) -> None:
    """`drain` returns when a reply comes instead."""
    world.stream.write(b"x" * 20_000_000)
    world.writer.write(b"552 Too big\r\n")
    await world.stream.drain(5)

    assert world.stream.unsent
    assert world.stream.has_unread


async def test_lost_while_writing(world: World) -> None:
    """`drain` raises ConnectionError when the connection is lost."""
    world.stream.write(b"x" * 20_000_000)
    world.writer.transport.abort()

    with pytest.raises(ConnectionError):
        await world.stream.drain(5)
    assert world.stream.unsent


REPLIES = (
    b"250 OK\r\n250-one\r\n250-two\r\n250 three\r\n354\r\n550 5.1.1 gr\xc3\xbc\xff\r\n"
    b"\r\n550-a\r\nb 1\r\n2026 c\r\n\r\n404\r\n550 d\r\n \t\r\n550-e\r\n554 f\r\n421 Bye\n"
)
ANSWERS = [
    RawReply(250, "OK"),
    RawReply(250, "one\ntwo\nthree"),
    RawReply(354, ""),
    RawReply(550, "5.1.1 grü\udcff"),
    RawReply(404, "\na\nb 1\n2026 c"),
    RawReply(550, "d"),
    RawReply(554, "f\ne"),
    RawReply(421, "Bye"),
]


@given(st.sets(st.integers(1, len(REPLIES) - 1)))
def test_any_cut(cuts: set[int]) -> None:
    """The replies are the same however the octets are cut, down to one at a time."""
    parser = ReplyParser()
    edges = [0, *sorted(cuts), len(REPLIES)]
    pieces = [REPLIES[begin:end] for begin, end in pairwise(edges)]

    assert [answer for piece in pieces for answer in parser.feed(piece)] == ANSWERS


CODES = st.sampled_from(["220", "250", "354", "421", "450", "550", "599"])
NOISE = st.text("ab 2501-é\t", max_size=9).filter(lambda text: not re.match(r"\d\d\d", text))
SAID = st.tuples(CODES, st.lists(NOISE, max_size=4), st.integers(1, 3), NOISE)


def written(code: str, noise: list[str], lines: int, text: str) -> str:
    """Return a reply with lines without a code in it, and blank lines after it."""
    inside = "".join(f"{code}-{text}\n{each}\r\n" for each in noise)
    return inside + f"{code}-{text}\r\n" * lines + f"{code} {text}\r\n" + "\r\n" * lines


@given(st.lists(SAID, max_size=9), st.integers(1, 40))
def test_as_many_as_there_are(said: list[tuple[str, list[str], int, str]], size: int) -> None:
    """Noise changes neither the number nor the order of replies."""
    parser = ReplyParser()
    octets = "".join(written(*each) for each in said).encode()
    pieces = [octets[start : start + size] for start in range(0, len(octets), size)]

    codes = [str(answer.code) for piece in pieces for answer in parser.feed(piece)]

    assert codes == [code for code, *_ in said]
    assert not parser.has_partial


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_any_octets(pieces: list[bytes]) -> None:
    """Any octets are replies or raise MalformedReply."""
    parser = ReplyParser()
    try:
        answers = [answer for piece in pieces for answer in parser.feed(piece)]
    except MalformedReply:
        return

    answers += parser.end()
    assert all(0 <= answer.code <= 999 for answer in answers)


@pytest.mark.parametrize(
    "garbage",
    [
        b"What\r\n",
        b"25\r\n",
        b"2500 OK\r\n",
        b"\xb2\xb2\xb2 OK\r\n",
        b"x" * (MAX_REPLY_OCTETS + 1),
        b"\r\n" * MAX_REPLY_OCTETS + b"x",
    ],
)
def test_garbled(garbage: bytes) -> None:
    """Malformed octets raise; replies before them are yielded, none after them."""
    parser, answers = ReplyParser(), deque[RawReply]()
    answers.extend(parser.feed(b"250 OK\r\n"))

    with pytest.raises(MalformedReply):
        answers.extend(parser.feed(garbage + b"250 no"))

    assert list(answers) == [RawReply(250, "OK")]
    assert not list(parser.end())


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (b"550-No\r\nSee our page\r\n550 Bye\r\n", RawReply(550, "No\nSee our page\nBye")),
        (b"550-5.1.1 No\r\n551 5.1.6 Moved\r\n", RawReply(551, "5.1.6 Moved\n5.1.1 No")),
        (b"550-At most\r\n100 mails\r\n550 a day\r\n", RawReply(550, "At most\n100 mails\na day")),
        (b"\r\n\r\n250-one\r\n\r\n250 two\r\n", RawReply(250, "one\ntwo")),
        (b"250-one\r\n250\r\n", RawReply(250, "one\n")),
        (b"250-one\r\n250:two\r\n", RawReply(250, "one\ntwo")),
    ],
)
def test_out_of_form(reply: bytes, answer: RawReply) -> None:
    """Malformed lines are read as far as possible, and the code of the last line counts (S12)."""
    assert list(ReplyParser().feed(reply + b"354 Next\r\n")) == [answer, RawReply(354, "Next")]


@pytest.mark.parametrize(
    "reply",
    [
        b"250 " + b"x" * 2 * MAX_LINE_OCTETS + b"\r\n",
        b"250-x\r\n" * 10_000 + b"250 x\r\n",
        b"250-\r\n" * 10_000 + b"250 x\r\n",
        (b"250-" + b"x" * 1000 + b"\r\n") * 66 + b"250 x\r\n",
    ],
)
def test_long(reply: bytes) -> None:
    """The text of a long reply is cut, its code counts, and the next reply too (S11)."""
    parser = ReplyParser()
    answers = [
        answer for start in range(0, len(reply), 999) for answer in feed(parser, reply, start)
    ]

    assert [answer.code for answer in answers] == [250]
    assert len(answers[0].text) <= MAX_TEXT_OCTETS
    assert list(parser.feed(b"354 Next\r\n")) == [RawReply(354, "Next")]


def feed(parser: ReplyParser, reply: bytes, start: int) -> list[RawReply]:
    """Feed a piece of a reply."""
    return list(parser.feed(reply[start : start + 999]))


@pytest.mark.parametrize("piece", [b"250-x\r\n", b"250-" + b"x" * 10_000 + b"\r\n", b"250 xxxx"])
def test_without_end(piece: bytes) -> None:
    """A reply without end ends with its code, and is never kept whole."""
    parser, answers, fed = ReplyParser(), deque[RawReply](), 0
    with suppress(MalformedReply):
        while fed < 2 * MAX_REPLY_OCTETS:
            fed += len(piece)
            answers.extend(parser.feed(piece))

    (answer,) = answers
    assert answer.code == 250
    assert len(answer.text) <= MAX_TEXT_OCTETS
    assert fed <= MAX_REPLY_OCTETS + len(piece)


@pytest.mark.parametrize(
    ("begun", "answers"),
    [
        (b"550 5.1.1 No such user", [RawReply(550, "5.1.1 No such user")]),
        (b"550-No\r\n", [RawReply(550, "No")]),
        (b"550-No\r\n55", [RawReply(550, "No\n55")]),
        (b"250", [RawReply(250, "")]),
        (b"25", []),
        (b"What", []),
        (b"", []),
        (b"250 OK\r\n", []),
    ],
)
def test_cut_off(begun: bytes, answers: list[RawReply]) -> None:
    """An incomplete reply counts if its code is known."""
    parser = ReplyParser()
    list(parser.feed(begun))

    assert parser.has_partial is (bool(begun) and not begun.endswith(b"OK\r\n"))
    assert list(parser.end()) == answers
    assert not parser.has_partial
    assert not list(parser.end())


@pytest.fixture
async def expired() -> asyncio.Event:
    """Return an event for the timer to set."""
    return asyncio.Event()


async def lateness_of(timer: ResettableTimer, expired: asyncio.Event) -> float:
    """Wait until the timer expires and return how many seconds late it is."""
    due, loop = timer._due, asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await expired.wait()
    return loop.time() - due


@pytest.mark.parametrize(
    "times", [(0.02,), (60, 0.02), (0.01, 0.03), (0.03, 0.01, 0.02), (-1,), (60, 0.01, -1)]
)
async def test_expires_at_the_last_time_set(
    expired: asyncio.Event, times: tuple[float, ...]
) -> None:
    """The timer expires at the time that was set last: sooner, later, or in the past."""
    timer, now = ResettableTimer(expired.set), asyncio.get_running_loop().time()
    for seconds in times:
        timer.set(now + seconds)

    assert await lateness_of(timer, expired) >= 0


async def test_expires_again(expired: asyncio.Event) -> None:
    """The timer can be set again after it has expired."""
    timer, loop = ResettableTimer(expired.set), asyncio.get_running_loop()
    for _ in range(2):
        timer.set(loop.time() + 0.01)
        assert await lateness_of(timer, expired) >= 0
        expired.clear()


@pytest.mark.parametrize(
    "how", [ResettableTimer.clear, ResettableTimer.stop], ids=["cleared", "stopped"]
)
async def test_cleared(expired: asyncio.Event, how: Callable[[ResettableTimer], None]) -> None:
    """A cleared timer does not expire until it is set again."""
    timer, other, loop = ResettableTimer(expired.set), asyncio.Event(), asyncio.get_running_loop()
    timer.set(loop.time() + 0.01)
    how(timer)
    loop.call_later(0.03, other.set)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await other.wait()

    assert not expired.is_set()
    timer.set(loop.time())
    assert await lateness_of(timer, expired) >= 0
