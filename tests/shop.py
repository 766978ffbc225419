"""A program at the broker, "shop", as docs/publish.md has an operator make it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import aio_pika
import pytest

from ops import program
from ops.broker import Management
from ops.broker import RabbitServer as Node
from ops.docs import DOCS
from shared import topology

SHOP = "shop"
PAGE = (DOCS / "publish.md").read_text(encoding="utf-8")


def block(language: str, marker: str = "") -> str:
    """Return the text of the page's code block that has `marker`."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    found: list[str] = [text for text in blocks if marker in text]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def shop_url(vhost: str, rabbit: Node) -> Iterator[str]:
    """Make the program's user in the test's vhost and return its URL."""
    with granted(rabbit.address.management, vhost) as url:
        yield url


@contextmanager
def granted(management: Management, amqp_url: str) -> Iterator[str]:
    """Make the user and its queue in the vhost of an administrator's URL; yield the user's URL."""
    vhost = unquote(urlsplit(amqp_url).path.removeprefix("/")) or "/"
    password = program.make(management, vhost, SHOP)
    try:
        yield program.login(amqp_url, SHOP, password)
    finally:
        program.remove(management, vhost, SHOP)


@pytest.fixture
def may_declare(vhost: str, shop_url: str, rabbit: Node) -> str:
    """Grant the shop the right to declare what begins with its name; no program should have it."""
    rights = {
        "configure": r"^shop\.",
        "write": r"^(shop\..*|mail\.commands)$",
        "read": r"^(shop\..*|mail\.events)$",
    }
    ask, name = rabbit.address.management.request, urlsplit(vhost).path.removeprefix("/")
    ask("PUT", f"/permissions/{name}/{SHOP}", rights)
    keys = {"exchange": topology.EVENTS, "write": "^$", "read": r"^email\."}
    ask("PUT", f"/topic-permissions/{name}/{SHOP}", keys)
    return shop_url


async def publish(url: str, exchange: str, key: str, body: bytes, **properties: Any) -> None:  # noqa: ANN401 -- of aio-pika
    """Publish a message with any properties and headers, as a program can."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        to = await channel.get_exchange(exchange, ensure=False)
        kept = aio_pika.DeliveryMode.PERSISTENT
        message = aio_pika.Message(body, delivery_mode=kept, **{"type": key, **properties})
        await to.publish(message, key)
