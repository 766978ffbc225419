"""The network of some length."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from benchmarks import distance
from ops import ports

SECONDS = 0.02


@pytest.fixture
async def far() -> AsyncIterator[int]:
    """Run an echo server that is `SECONDS` away, until all its connections end."""
    talks: set[asyncio.Task[None]] = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.create_task(echo(reader, writer)))

    target = await asyncio.start_server(accept, "127.0.0.1", 0)
    network = await distance.listen(0, target.sockets[0].getsockname()[1], SECONDS)
    async with target, network, asyncio.timeout(10):
        yield network.sockets[0].getsockname()[1]
        await asyncio.gather(*talks)


async def test_an_answer_takes_both_ways(far: int) -> None:
    """It is there after twice the distance, not before."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", far)
    begun = loop.time()
    writer.write(b"x")

    assert await reader.read(1) == b"x"
    # A timer may fire by one tick of the clock too early.
    assert loop.time() - begun > 2 * SECONDS - 0.005
    writer.close()
    await writer.wait_closed()


async def test_the_order_is_kept_to_the_end(far: int) -> None:
    """Many pieces and an end arrive as they were sent."""
    pieces = [bytes([number]) * 1000 for number in range(200)]
    reader, writer = await asyncio.open_connection("127.0.0.1", far)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    received = await reader.readexactly(200_000)
    writer.write_eof()

    assert received == b"".join(pieces)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_an_unreachable_server() -> None:
    """A far port that nobody listens on ends the connection."""
    [nowhere] = ports.unused(1)
    async with await distance.listen(0, nowhere, SECONDS) as network, asyncio.timeout(10):
        port = network.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        with suppress(ConnectionResetError):
            await writer.wait_closed()
