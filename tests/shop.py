"""The broker user that docs/publish.md tells a program to make: "shop", with those rights alone."""

import re
import secrets
import shlex
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import aio_pika
import pytest

from ops.broker import Broker as Node
from ops.contracts import DOCS

PAGE = (DOCS / "publish.md").read_text(encoding="utf-8")


def block(language: str, marker: str = "") -> str:
    """Return the text of the page's code block that has `marker`."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    found: list[str] = [text for text in blocks if marker in text]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def shop_url(vhost: str, rabbit: Node) -> Iterator[str]:
    """Make the user that the page tells to make, and return its URL of the test's vhost."""
    where, name = urlsplit(vhost), urlsplit(vhost).path.removeprefix("/")
    ask = rabbit.address.management.request
    password = secrets.token_hex(16)
    for command in block("sh", "add_user").splitlines():
        match shlex.split(command)[1:]:
            case ["add_user", user, _]:
                ask("PUT", f"/users/{user}", {"password": password, "tags": ""})
            case ["set_permissions", user, configure, write, read]:
                rights = {"configure": configure, "write": write, "read": read}
                ask("PUT", f"/permissions/{name}/{user}", rights)
            case ["set_topic_permissions", user, exchange, write, read]:
                rights = {"exchange": exchange, "write": write, "read": read}
                ask("PUT", f"/topic-permissions/{name}/{user}", rights)
            case unknown:
                pytest.fail(f"the page has a command that this test does not know: {unknown}")
    yield f"amqp://shop:{password}@{where.hostname}:{where.port}/{quote(name)}"
    ask("DELETE", "/users/shop")


async def publish(url: str, exchange: str, key: str, body: bytes, **properties: Any) -> None:  # noqa: ANN401 -- of aio-pika
    """Publish a message with any properties and headers, as a program can."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        to = await channel.get_exchange(exchange, ensure=False)
        kept = aio_pika.DeliveryMode.PERSISTENT
        message = aio_pika.Message(body, delivery_mode=kept, **{"type": key, **properties})
        await to.publish(message, key)
