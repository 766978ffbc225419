"""A broker that can be cut off, and a queue."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import urlsplit

import pytest
import uvloop
from yarl import URL

from shared.rabbitmq import Connection, declare
from shared.rabbitmq import connection as connections
from tests.proxy import Proxy
from tests.shared.rabbitmq.messages import QUORUM


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each test on the loop of the services and on Python's own: their transports differ."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect again sooner than a service does."""
    monkeypatch.setattr(connections, "RECONNECT_SECONDS", 0.02)


@pytest.fixture
async def proxy(vhost: str) -> AsyncIterator[Proxy]:
    """Open a way to the broker that a test can cut."""
    async with Proxy.to(urlsplit(vhost).port or 0) as way:
        yield way


@pytest.fixture
async def connection(vhost: str, proxy: Proxy) -> AsyncIterator[Connection]:
    """Connect by that way, when there is a queue."""
    await declare(vhost, [], [QUORUM])
    async with Connection.open([URL(vhost).with_port(proxy.port)], "tests", 0) as opened:
        yield opened


@pytest.fixture
async def steady(vhost: str) -> AsyncIterator[Connection]:
    """Connect by a way that is never cut."""
    async with Connection.open([URL(vhost)], "steady", 0) as opened:
        yield opened
