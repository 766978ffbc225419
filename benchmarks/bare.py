"""The baseline of the sender: a loop around aiosmtplib with ready-made octets, and nothing else.

No queue, no outcome, no composing: what is left is SMTP. Reads its task as JSON from standard
input and writes how many seconds it took to standard output.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import orjson
import uvloop
from aiosmtplib import SMTP

from benchmarks import mail


@dataclass(frozen=True, slots=True)
class Task:
    """Send `count` mails over `connections` to a port of 127.0.0.1."""

    port: int
    count: int
    connections: int


async def send_all(task: Task) -> float:
    """Send them and tell how many seconds it took, opening the connections not included."""
    content, numbers = mail.ready_made(), iter(range(task.count))
    async with AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(_client(task.port)) for _ in range(task.connections)
        ]
        begun = time.perf_counter()
        await asyncio.gather(*(_send(client, numbers, content) for client in clients))
        return time.perf_counter() - begun


async def _send(client: SMTP, numbers: Iterator[int], content: bytes) -> None:
    """Send until `numbers`, which all connections share, are used up."""
    for number in numbers:
        await client.sendmail("postrider@bench.example", [mail.recipient(number)], content)


def _client(port: int) -> SMTP:
    return SMTP(hostname="127.0.0.1", port=port, start_tls=False, local_hostname="[127.0.0.1]")


if __name__ == "__main__":
    found = uvloop.run(send_all(Task(**orjson.loads(sys.stdin.buffer.read()))))
    sys.stdout.write(str(found))
