"""Limits of HTTP connections, on real sockets."""

import asyncio
import gc
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from shared.runtime import health, metrics
from shared.runtime.http_connections import MIN_LOG_SECONDS, Connections, LimitedProtocol, Limits
from tests.waiting import PATIENCE_SECONDS, until

PING = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def served(limits: Limits) -> AsyncIterator[int]:
    """Serve the health routes within limits and yield the port."""
    app = web.Application()
    app.add_routes(health.routes({}))
    made = partial(LimitedProtocol, Connections(limits))
    async with health.serving(app, "127.0.0.1", 0, 1.0, made) as port:
        yield port


async def connect(
    port: int, sent: bytes = b""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect and send something."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    return reader, writer


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Return what still comes until the connection is closed."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


def test_an_address_has_so_many_connections_and_no_more() -> None:
    """Each address has a limit of its own, and a closed connection makes room."""
    connections = Connections(Limits(total=10, by_address=2))

    admitted = [connections.admit("192.0.2.1") for _ in range(3)]
    assert admitted == [None, None, "address"]
    assert connections.admit("192.0.2.2") is None
    connections.release("192.0.2.1")
    assert connections.admit("192.0.2.1") is None


def test_all_addresses_together_have_a_total() -> None:
    """The total limit holds for proxies too."""
    connections = Connections(Limits(total=2, by_address=1), lambda address: address == "10.0.0.1")

    assert connections.admit("10.0.0.1") is None
    assert connections.admit("10.0.0.1") is None
    assert connections.admit("192.0.2.1") == "total"


def test_a_network_of_ipv6_is_one_address() -> None:
    """An IPv6 address counts as its /64; an IPv4 address written as IPv6 counts as itself."""
    connections = Connections(Limits(total=10, by_address=1))

    assert connections.admit("2001:db8::1") is None
    assert connections.admit("2001:db8::ffff:2") == "address"
    assert connections.admit("2001:db8:0:1::1") is None
    assert connections.admit("::ffff:192.0.2.1") is None
    assert connections.admit("::ffff:192.0.2.2") is None


def test_the_total_leaves_descriptors_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit leaves descriptors for the broker and the database."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (103, 103))
    connections = Connections(Limits(total=1000, by_address=1000))

    assert [connections.admit("192.0.2.1") for _ in range(4)] == [None, None, None, "total"]


def test_many_refusals_are_few_lines() -> None:
    """Refused connections are all counted, and logged at most every ten seconds."""
    connections = Connections(Limits())
    counter = metrics.CONNECTIONS_REFUSED.labels("address")
    before = counter._value.get()
    with capture_logs() as lines:
        for second in (0.0, 1.0, 2.0, MIN_LOG_SECONDS, MIN_LOG_SECONDS + 1):
            connections.refused("address", "192.0.2.1", second)

    assert [line["limits"] for line in lines] == [{"address": 1}, {"address": 3}]
    assert lines[0]["remote"] == "192.0.2.1"
    assert counter._value.get() - before == 5


async def test_a_silent_connection_is_closed() -> None:
    """A connection that sends nothing is closed (issue 10, A6)."""
    async with served(Limits(header_seconds=0.2)) as port:
        reader, writer = await connect(port)

        assert await ended(reader) == b""
        writer.close()


async def test_headers_that_drip_in_are_not_waited_for() -> None:
    """Headers that come byte by byte do not extend the time."""
    async with served(Limits(header_seconds=0.3)) as port:
        reader, writer = await connect(port, PING[:20])

        async def drip() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.02)  # the pace of the caller, not of what is tested

        dripping = asyncio.create_task(drip())
        assert b"200" not in await ended(reader)
        dripping.cancel()
        writer.close()


@pytest.mark.parametrize("next_request", [b"", PING[:20]])
async def test_an_idle_connection_is_closed(next_request: bytes) -> None:
    """An idle connection is closed even if a part of the next request has come."""
    async with served(Limits(idle_seconds=0.3)) as port:
        reader, writer = await connect(port, PING)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert b" 200 " in await reader.readline()
        writer.write(next_request)

        assert b"HTTP/" not in await ended(reader)
        writer.close()


async def test_a_connection_that_is_used_lives_on() -> None:
    """A connection that has had a request is not closed by the time for the first one."""
    async with served(Limits(header_seconds=2)) as port:
        reader, writer = await connect(port)
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while asyncio.get_running_loop().time() < begun + 2.5:
                writer.write(PING)
                assert b" 200 " in await reader.readuntil(b"}")
        writer.close()


async def test_one_address_leaves_room_for_others() -> None:
    """A hundred silent connections of one address do not stop another address."""
    async with served(Limits(total=20, by_address=10)) as port:
        silent = [await connect(port) for _ in range(100)]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=("127.0.0.2", 0)
        )
        writer.write(PING)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert b" 200 " in await reader.readline()
        for _, each in [*silent, (reader, writer)]:
            each.close()


async def test_a_connection_that_could_not_be_read_is_freed_at_once() -> None:
    """A broken request leaves no cycle of objects, which would keep its data for minutes."""

    async def is_free() -> bool:
        return not any(isinstance(each, LimitedProtocol) for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        async with served(Limits()) as port:
            for _ in range(3):
                reader, writer = await connect(port, b"GET /" + b"a" * 20_000)
                assert await ended(reader)
                writer.transport.abort()
            await until(is_free)
    finally:
        gc.enable()
