"""The gateway's door: what may be so later, what never will be, a connection that is lost."""

import asyncio

import pytest
from yarl import URL

from ops import ports
from ops.load.door import Busy, Door, Request
from ops.load.errors import LoadError
from tests.ops.load.gateway import KEY, Gateway

PUT = Request("PUT", "/v1/events/a.example/delivered", key="1")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_may_be_so_later_is_told_with_when(status: int) -> None:
    """The same can be asked again."""
    async with Gateway.serving(refusals=1, status=status) as gateway:
        door = Door(gateway.url, KEY)
        with pytest.raises(Busy, match=str(status)) as caught:
            await door.ask(PUT)
        assert (await door.ask(PUT)).status == 202
        door.close()

    assert caught.value.after == 0


@pytest.mark.parametrize("key", ["wrong", ""])
async def test_what_never_will_be_is_told(key: str) -> None:
    """Another thousand requests with a wrong key are no load, but a mistake."""
    async with Gateway.serving() as gateway:
        door = Door(gateway.url, key)
        with pytest.raises(LoadError, match=r"gateway answers 401 .+unauthorized"):
            await door.ask(PUT)
        door.close()


async def test_a_lost_connection_is_made_anew() -> None:
    """The gateway may be restarted in the middle."""
    answers = iter([b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(next(answers))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        door = Door(URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), KEY)
        await door.open()
        with pytest.raises(Busy):
            await door.read("/")
        assert await door.read("/") == {}
        door.close()


async def test_a_gateway_that_is_not_there_is_told_at_once() -> None:
    """A wrong address is no reason to wait."""
    (port,) = ports.unused(1)

    with pytest.raises(LoadError, match=f"http://127.0.0.1:{port} does not answer"):
        await Door(URL(f"http://127.0.0.1:{port}"), KEY).open()
