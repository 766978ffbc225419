"""The bare HTTP connection: whole answers, and no answer taken for another's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from ops.load import caller
from ops.load.caller import Caller


@asynccontextmanager
async def saying(*octets: bytes) -> AsyncIterator[URL]:
    """Serve connections that answer anything with these octets, piece by piece, and then end."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in octets:
            writer.write(piece)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")


async def test_a_real_server_understands_it() -> None:
    """Path, query, header fields and body arrive as they were meant, again and again."""
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        key, text = request.headers.get("X-Key"), await request.text()
        seen.append(f"{request.method} {request.path_qs} {key} {text}")
        return web.Response(status=202, text="x" * 100_000, headers={"Retry-After": "7"})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    async with TestServer(app) as server:
        url = server.make_url("/a?b=1")
        connection = await Caller.connect(url)
        first = await connection.ask(caller.request("PUT", url, {"X-Key": "k"}, "ä".encode()))
        second = await connection.ask(caller.request("GET", url))
        connection.close()

    assert seen == ["PUT /a?b=1 k ä", "GET /a?b=1 None "]
    assert (first.status, len(first.body), second.status) == (202, 100_000, 202)
    assert b"Retry-After: 7" in first.head


@pytest.mark.parametrize(
    ("received", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200),
        (b"HTTP/1.1 202 Accepted\r\ncontent-length:0\r\n\r\n", 202),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh", None),
        (b"HTTP/1.1 200 OK\r\nContent-Le", None),
        (b"", None),
    ],
)
def test_an_answer_is_complete_with_its_last_octet(received: bytes, status: int | None) -> None:
    """A part of an answer is none yet."""
    answer = caller.complete(received)

    assert (answer and answer.status) == status


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"half"),
        (b"HTTP/1.1 200 OK\r\n\r\n",),
        (b"SMTP\r\nContent-Length: 0\r\n\r\n",),
    ],
    ids=["nothing", "a half", "no length", "no HTTP"],
)
async def test_no_answer_is_told(pieces: tuple[bytes, ...]) -> None:
    """Nobody waits for what will not come."""
    async with saying(*pieces) as url:
        connection = await Caller.connect(url)
        with pytest.raises(ConnectionError):
            await connection.ask(caller.request("GET", url))
        with pytest.raises(ConnectionError):
            await connection.ask(caller.request("GET", url))


async def test_an_answer_that_nobody_waits_for_is_no_other_requests() -> None:
    """Who was cancelled while waiting has closed the connection."""
    async with saying(b"HTTP/1.1 200 OK\r\n") as url:
        connection = await Caller.connect(url)
        asking = asyncio.create_task(connection.ask(caller.request("GET", url)))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        with pytest.raises(ConnectionError):
            await connection.ask(caller.request("GET", url))
