"""The two ways in: over HTTP a connection for each of the crew, over AMQP one for all."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import TypeVar

from yarl import URL

from ops.load.crew import Lane, Send
from ops.load.door import Door, Request
from ops.load.errors import LoadError
from shared.broker import Broker
from shared.contracts import Contract
from shared.errors import Unavailable

_NAME = "load"  # by which the broker knows us

T = TypeVar("T")


@asynccontextmanager
async def knocking(url: URL, client_key: str = "") -> AsyncIterator[Door]:
    """Keep a door open. Raises LoadError when nobody is there."""
    door = Door(url, client_key)
    await door.open()
    try:
        yield door
    finally:
        door.close()


@asynccontextmanager
async def http(
    url: URL, client_key: str, request: Callable[[T], Request]
) -> AsyncIterator[Lane[T]]:
    """Send each item as a request."""

    @asynccontextmanager
    async def lane() -> AsyncIterator[Send[T]]:
        async with knocking(url, client_key) as door:

            async def send(item: T) -> None:
                answer = await door.ask(request(item))
                if answer.status == HTTPStatus.MULTI_STATUS:
                    raise LoadError("the gateway takes only a part of a batch")

            yield send

    yield lane


@asynccontextmanager
async def amqp(url: str, message: Callable[[T], Contract]) -> AsyncIterator[Lane[T]]:
    """Publish each item, confirmed. Raises LoadError when there is no broker."""
    async with _connected(url) as broker:

        @asynccontextmanager
        async def lane() -> AsyncIterator[Send[T]]:
            async def send(item: T) -> None:
                await broker.publish(message(item))

            yield send

        yield lane


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Broker]:
    connecting: AbstractAsyncContextManager[Broker] = Broker.connect(url, _NAME, patience=0)
    try:
        broker = await connecting.__aenter__()
    except Unavailable as error:
        raise LoadError(str(error)) from error
    try:
        yield broker
    finally:
        await connecting.__aexit__(None, None, None)
