"""The HTTP connection, and the client of the gateway."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from ops import ports
from ops.load import http
from ops.load.http import GatewayClient, HttpConnection, HttpRequest, LoadError, TryLater
from tests.ops.load.gateway import KEY, Gateway

PUT = HttpRequest("PUT", "/v1/events/a.example/delivered", key="1")


@asynccontextmanager
async def saying(*octets: bytes) -> AsyncIterator[URL]:
    """Serve connections that answer a request with these octets, piece by piece, and close."""

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
    """A server receives path, query, header fields and body of each request on a connection."""
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        key, text = request.headers.get("X-Key"), await request.text()
        seen.append(f"{request.method} {request.path_qs} {key} {text}")
        return web.Response(status=202, text="x" * 100_000, headers={"Retry-After": "7"})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    async with TestServer(app) as server:
        url = server.make_url("/a?b=1")
        connection = await HttpConnection.connect(url)
        first = await connection.request(
            http.encode_request("PUT", url, {"X-Key": "k"}, "ä".encode())
        )
        second = await connection.request(http.encode_request("GET", url))
        connection.close()

    assert seen == ["PUT /a?b=1 k ä", "GET /a?b=1 None "]
    assert (first.status, len(first.body), second.status) == (202, 100_000, 202)
    assert b"Retry-After: 7" in first.head


@pytest.mark.parametrize(
    ("pieces", "status", "length"),
    [
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",), 200, 2),
        ((b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 2\r\n\r\nh", b"i"), 200, 2),
        ((b"HTTP/1.1 202 Accepted\r\ncontent-length:0\r\n\r\n",), 202, 0),
    ],
)
async def test_a_response_is_complete_with_its_last_octet(
    pieces: tuple[bytes, ...], status: int, length: int
) -> None:
    """A response may arrive in pieces."""
    async with saying(*pieces) as url:
        connection = await HttpConnection.connect(url)
        response = await connection.request(http.encode_request("GET", url))
        connection.close()

    assert (response.status, len(response.body)) == (status, length)


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"HTTP/1.1 200 OK\r\nContent-Le",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"half"),
        (b"HTTP/1.1 200 OK\r\n\r\n",),
        (b"SMTP\r\nContent-Length: 0\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 20_000),
    ],
    ids=["nothing", "half a head", "half a body", "no length", "no HTTP", "a head without end"],
)
async def test_an_incomplete_response_closes_the_connection(pieces: tuple[bytes, ...]) -> None:
    """A request without a whole response fails, and so does each later one."""
    async with saying(*pieces) as url:
        connection = await HttpConnection.connect(url)
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await connection.request(http.encode_request("GET", url))


async def test_a_cancelled_request_closes_the_connection() -> None:
    """A late response is never taken for that of another request."""
    async with saying(b"HTTP/1.1 200 OK\r\n") as url:
        connection = await HttpConnection.connect(url)
        asking = asyncio.create_task(connection.request(http.encode_request("GET", url)))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        with pytest.raises(ConnectionError):
            await connection.request(http.encode_request("GET", url))


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_temporary_refusal_names_its_retry_after(status: int) -> None:
    """The same request can be sent again."""
    async with (
        Gateway.serving(refusals=1, status=status) as gateway,
        GatewayClient.open(gateway.url, KEY) as client,
    ):
        with pytest.raises(TryLater, match=str(status)) as caught:
            await client.send(PUT)
        assert (await client.send(PUT)).status == 202

    assert caught.value.after == 0


@pytest.mark.parametrize("key", ["wrong", ""])
async def test_a_permanent_refusal_is_an_error(key: str) -> None:
    """A request with a wrong key is not repeated."""
    async with (
        Gateway.serving() as gateway,
        GatewayClient.open(gateway.url, key) as client,
    ):
        with pytest.raises(LoadError, match=r"gateway answers 401 .+unauthorized"):
            await client.send(PUT)


async def test_a_lost_connection_is_renewed() -> None:
    """The gateway may be restarted during a run."""
    answers = iter([b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(next(answers))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with GatewayClient.open(url, KEY) as client:
            with pytest.raises(TryLater):
                await client.get("/")
            assert await client.get("/") == {}


async def test_a_gateway_that_is_not_there_is_an_error_at_once() -> None:
    """A wrong address is found before anything is sent."""
    (port,) = ports.unused(1)

    with pytest.raises(LoadError, match=f"http://127.0.0.1:{port} does not answer"):
        async with GatewayClient.open(URL(f"http://127.0.0.1:{port}")):
            pass
