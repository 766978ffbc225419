"""Everything that a stack has written, except the mailbox itself."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit
from urllib.request import urlopen

from ops.broker import Management
from services.otp.codes import Challenge, CodeGenerator, CodeScope
from tests.journeys.stack import Stack

_MESSAGES = 10_000  # of a queue at most


class Piece(NamedTuple):
    """A text that was written, and its place."""

    where: str
    content: bytes

    def holds(self, code: str) -> bool:
        """Return whether a code is in a text, not as a part of a longer number."""
        place = self.content.find(code.encode())
        while place >= 0:
            end = place + len(code)
            around = self.content[max(place - 1, 0) : place] + self.content[end : end + 1]
            if not any(chr(byte).isalnum() or byte == ord(".") for byte in around):
                return True
            place = self.content.find(code.encode(), place + 1)
        return False


class Broker:
    """The stack's broker, as its administrator sees it."""

    def __init__(self, stack: Stack) -> None:
        record = stack.record
        amqp = urlsplit(record["amqp_url"])
        login = unquote(amqp.username or ""), unquote(amqp.password or "")
        self._management = Management(record["management_url"], *login)
        self._vhost = quote(unquote(amqp.path[1:]) or "/", safe="")

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """Return the messages of a queue without removing them."""
        look = {"count": _MESSAGES, "ackmode": "ack_requeue_true", "encoding": "auto"}
        found: Any = self._ask("POST", f"/queues/{self._vhost}/{quote(queue, safe='')}/get", look)
        return list(found)

    def queues(self) -> list[str]:
        """Return the names of all queues."""
        found: Any = self._ask("GET", f"/queues/{self._vhost}")
        return [queue["name"] for queue in found]

    def publish(self, exchange: str, message: dict[str, Any], **properties: str) -> None:
        """Publish a message as the operator, with other properties."""
        path = f"/exchanges/{self._vhost}/{exchange}/publish"
        known = {**message["properties"], "user_id": self._management.user, **properties}
        keep = ("payload", "payload_encoding")
        body = {name: message[name] for name in keep} | {"properties": known}
        self._ask("POST", path, body | {"routing_key": "email.send.otp"})

    def purge(self, queue: str) -> None:
        """Empty a queue."""
        self._ask("DELETE", f"/queues/{self._vhost}/{queue}/contents")

    def _ask(self, method: str, path: str, body: object = None) -> object:
        return self._management.request(method, path, body)


def everything(stack: Stack) -> Iterator[Piece]:
    """Yield every file, every message of every queue, every row of every database, all metrics."""
    mailbox = stack.run_dir / "data" / "mailbox"
    for path in stack.run_dir.rglob("*"):
        if path.is_file() and mailbox not in path.parents:
            yield Piece(str(path.relative_to(stack.run_dir)), path.read_bytes())
    broker = Broker(stack)
    for queue in broker.queues():
        for message in broker.messages(queue):
            yield Piece(queue, json.dumps(message).encode())
    yield from _rows(stack)
    for name, service in stack.record["services"].items():
        with urlopen(service["health_url"].replace("healthz", "metrics")) as response:  # noqa: S310
            yield Piece(f"metrics of {name}", response.read())


def codes(stack: Stack, ending: str) -> dict[str, str]:
    """Return the codes of all addresses with this ending, as the otp service derives them."""
    book = CodeGenerator.from_text(
        json.loads((stack.run_dir / "secrets.json").read_text())["OTP_KEY"]
    )
    columns = "id, client, purpose, email, nonce, key_id, digits"
    with closing(sqlite3.connect(stack.run_dir / "data" / "otp.sqlite")) as database:
        rows = database.execute(
            f"SELECT {columns} FROM challenges WHERE email LIKE ?",  # noqa: S608 -- ours
            (f"%{ending}",),
        ).fetchall()
    return {
        email: book.code(
            Challenge(id_, CodeScope(client, purpose, email), nonce, key_id, digits, 0, 0, 0)
        )
        for id_, client, purpose, email, nonce, key_id, digits in rows
    }


def _rows(stack: Stack) -> Iterator[Piece]:
    for path in (stack.run_dir / "data").glob("*.sqlite"):
        with closing(sqlite3.connect(path)) as database:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in tables.fetchall():
                for row in database.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 -- theirs
                    yield Piece(f"{path.name}: {table}", repr(row).encode())
