"""Tests of the octets out and the replies in, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import pytest

from services.sender.smtp.reply_parser import Answer
from services.sender.smtp.stream import MAX_UNREAD, Dialogue, Strange


@dataclass
class World:
    """A dialogue and the server's end of its connection."""

    dialogue: Dialogue
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def read_until_the_end(dialogue: Dialogue) -> list[Answer]:
    """Give all replies until the connection has ended."""
    answers = []
    with suppress(ConnectionError):
        while True:
            answers.append(await dialogue.answer(5))
    return answers


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Connect a dialogue to a server that reads nothing and says what the test says."""
    arrived: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_server(lambda *both: arrived.put_nowait(both), "127.0.0.1")
    _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
    reader, writer = await arrived.get()
    writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport of both ways
    dialogue = Dialogue(cast("asyncio.Transport", client.transport))
    yield World(dialogue, reader, writer)
    dialogue.abort()
    writer.transport.abort()
    server.close()
    await server.wait_closed()


async def test_in_order(world: World) -> None:
    """Replies are given in their order, those that came before they were asked for too."""
    world.writer.write(b"250 one\r\n250 two\r\n")
    answers = [await world.dialogue.answer(5) for _ in range(2)]

    assert answers == [Answer(250, "one"), Answer(250, "two")]
    assert not world.dialogue.unread
    assert world.dialogue.open


async def test_said_before_the_end(world: World) -> None:
    """What was said before the connection ended can be read after it."""
    world.writer.write(b"421 Bye\r\n")
    world.writer.close()

    assert await read_until_the_end(world.dialogue) == [Answer(421, "Bye")]
    assert not world.dialogue.open
    with pytest.raises(ConnectionError):
        world.dialogue.write(b"QUIT\r\n")


@pytest.mark.parametrize("said", [b"550 5.1.1 No", b"550-5.1.1 No\r\n"])
async def test_said_without_its_end(world: World, said: bytes) -> None:
    """A reply whose end never came counts when the connection has ended."""
    world.writer.write(said)
    world.writer.close()

    assert await read_until_the_end(world.dialogue) == [Answer(550, "5.1.1 No")]


async def test_a_reply_without_end(world: World) -> None:
    """A reply whose end is late counts, and the rest of it is nobody's reply."""
    world.writer.write(b"250-OK\r\n")
    answer = await world.dialogue.answer(0.2)
    world.writer.write(b"250 and good\r\n")

    assert answer == Answer(250, "OK")
    assert not world.dialogue.open
    with pytest.raises(Strange):
        await world.dialogue.answer(5)


async def test_a_flood_in_one_reply(world: World) -> None:
    """A reply that does not end is read up to its limit, then its code counts."""
    world.writer.write(b"250-" + b"x" * 20_000_000)
    (answer,) = await read_until_the_end(world.dialogue)

    assert answer.code == 250


async def test_silence(world: World) -> None:
    """A reply is not waited for beyond its time."""
    with pytest.raises(TimeoutError):
        await world.dialogue.answer(0.01)


async def test_a_flood(world: World) -> None:
    """Replies that nobody asked for are not collected for ever."""
    world.writer.write(b"250 OK\r\n" * 2 * MAX_UNREAD)
    await read_until_the_end(world.dialogue)

    with pytest.raises(Strange):
        await world.dialogue.answer(5)


async def test_unsent(world: World) -> None:
    """As long as the other side does not take it all, part of it has not been sent."""
    world.dialogue.write(b"x" * 20_000_000)

    assert world.dialogue.unsent
    with pytest.raises(TimeoutError):
        await world.dialogue.drained(0.01)


async def test_drained(world: World) -> None:
    """Once the other side has taken it, all was sent."""
    world.dialogue.write(b"x" * 20_000_000)
    world.writer.transport.resume_reading()  # type: ignore[attr-defined] # as above
    await world.reader.readexactly(20_000_000)
    await world.dialogue.drained(5)

    assert not world.dialogue.unsent


async def test_a_reply_in_between(world: World) -> None:
    """Who waits until all is taken is told when the other side says something instead."""
    world.dialogue.write(b"x" * 20_000_000)
    world.writer.write(b"552 Too big\r\n")
    await world.dialogue.drained(5)

    assert world.dialogue.unsent
    assert world.dialogue.unread


async def test_lost_while_writing(world: World) -> None:
    """Who waits until all is taken is told when it never will be."""
    world.dialogue.write(b"x" * 20_000_000)
    world.writer.transport.abort()

    with pytest.raises(ConnectionError):
        await world.dialogue.drained(5)
    assert world.dialogue.unsent
