"""The record of the stack has a working key after every start."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ops.secret_file import SecretFile
from ops.stack.record import client_key
from ops.stack.settings import StackError


class Gateway:
    """The part of the gateway that registers clients, with a new key each time."""

    def __init__(self) -> None:
        self.registered = False
        self.given = 0
        self.app = web.Application()
        self.app.router.add_post("/v1/clients", self._register)
        self.app.router.add_delete("/v1/clients/local", self._revoke)

    async def _register(self, request: web.Request) -> web.Response:
        if request.headers["Authorization"] != "Bearer admin":
            return web.Response(status=401)
        if self.registered:
            return web.Response(status=409)
        self.registered = True
        self.given += 1
        return web.json_response({"id": "local", "api_key": f"key {self.given}"}, status=201)

    async def _revoke(self, _: web.Request) -> web.Response:
        self.registered = False
        return web.Response(status=204)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Serve a gateway without clients."""
    async with TestServer(Gateway().app) as server:
        yield str(server.make_url("/"))


async def test_a_key_is_found_again(url: str, tmp_path: Path) -> None:
    """The client's key stays the same after a restart."""
    first = await client_key(url, "admin", SecretFile(tmp_path / "secrets.json", {}))
    second = await client_key(url, "admin", SecretFile(tmp_path / "secrets.json", {}))

    assert (first, second) == ("key 1", "key 1")


async def test_a_lost_key_is_replaced(url: str, tmp_path: Path) -> None:
    """A lost key is replaced, since the gateway shows a key once only."""
    await client_key(url, "admin", SecretFile(tmp_path / "secrets.json", {}))

    assert await client_key(url, "admin", SecretFile(tmp_path / "others.json", {})) == "key 2"


async def test_a_refusal_is_one_clear_line(url: str, tmp_path: Path) -> None:
    """A wrong token is an error in one line."""
    with pytest.raises(StackError, match="the gateway does not register a client: 401"):
        await client_key(url, "nobody", SecretFile(tmp_path / "secrets.json", {}))
