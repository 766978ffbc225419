"""Hostile and clumsy neighbours, each a program of its own: `python -m tests.journeys.neighbours`.

Each gets its name and, in the environment, GATEWAY_URL, CLIENT_KEY and AMQP_URL with the rights of
docs/publish.md. It goes on until it is ended, at the longest for END_SECONDS. It runs at a low
priority: on a machine of its own it would not take the processor of the services.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from urllib.parse import urlsplit

import aio_pika
import aiohttp
import orjson
from aio_pika.abc import AbstractChannel, AbstractExchange, HeadersType
from aiormq.abc import FieldTable

END_SECONDS = 230.0
NICENESS = 15
PAUSE_SECONDS = 0.05  # between two requests of a neighbour
# At the most, of bodies over AMQP. The broker stores each several times before it confirms what
# others publish; with more its disk would be measured, and no service.
PUBLISHED_BYTES_PER_SECOND = 4_000_000
CONNECTIONS = 600  # of a neighbour that says nothing; fewer than 1,024 descriptors allow
ADDRESS = ("127.0.0.2", 0)  # of a neighbour's machine: limits count by it
MIB = 1024 * 1024

Attack = Callable[["Neighbour"], Awaitable[None]]


@dataclass(frozen=True)
class Neighbour:
    """A program with a client's key and a user at the broker."""

    environ: Mapping[str, str]

    async def post(self, path: str, bodies: Sequence[bytes], kind: str = "json") -> None:
        """Post bodies in turns, for ever, whatever the answers are."""
        headers = {
            "Authorization": f"Bearer {self.environ['CLIENT_KEY']}",
            "Content-Type": f"application/{kind}",
        }
        timeout = aiohttp.ClientTimeout(total=30)
        connector = aiohttp.TCPConnector(local_addr=ADDRESS)
        async with aiohttp.ClientSession(
            self.environ["GATEWAY_URL"], connector=connector, headers=headers, timeout=timeout
        ) as http:
            for number in count():
                with suppress(aiohttp.ClientError, TimeoutError):
                    await (await http.post(path, data=bodies[number % len(bodies)])).read()
                await asyncio.sleep(PAUSE_SECONDS)

    async def send(self, *mails: Mapping[str, object]) -> None:
        """Post mails in turns, for ever; each is a new one."""
        await self.post("/v1/messages", [orjson.dumps({**MAIL, **mail}) for mail in mails])

    async def publish(self, *commands: Mapping[str, object], reply_to: str | None = None) -> None:
        """Publish commands in turns, for ever; each is a new one if it names no id."""
        async with self.exchange() as exchange:
            for number in count():
                command = commands[number % len(commands)]
                body = orjson.dumps({"id": f"poison-{os.getpid()}-{number}", **COMMAND, **command})
                await _published(exchange, body, reply_to=reply_to)
                await _paused(body)

    async def connection(self) -> asyncio.StreamWriter:
        """Open a connection to the gateway."""
        where = urlsplit(self.environ["GATEWAY_URL"])
        _, writer = await asyncio.open_connection(where.hostname, where.port, local_addr=ADDRESS)
        return writer

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        """Open a channel."""
        connection = await aio_pika.connect(self.environ["AMQP_URL"])
        async with connection, connection.channel() as channel:
            yield channel

    @asynccontextmanager
    async def exchange(self) -> AsyncIterator[AbstractExchange]:
        """Open the exchange of commands."""
        async with self.channel() as channel:
            yield await channel.get_exchange("mail.commands", ensure=False)


MAIL: Mapping[str, object] = {"to": "x@neighbour.example", "subject": "s", "text": "t"}
COMMAND: Mapping[str, object] = {
    "to": ["x@neighbour.example"],
    "subject": "s",
    "text": "t",
    "category": "transactional",
}


async def _published(
    exchange: AbstractExchange,
    body: bytes,
    key: str = "email.send.transactional",
    headers: HeadersType | None = None,
    reply_to: str | None = None,
) -> None:
    """Publish a message that may be refused."""
    message = aio_pika.Message(body, type=key, headers=headers, reply_to=reply_to, delivery_mode=2)
    with suppress(aio_pika.exceptions.DeliveryError, TimeoutError):
        await exchange.publish(message, key, timeout=10)


async def _paused(body: bytes) -> None:
    """Wait until the next message may follow this one."""
    await asyncio.sleep(max(PAUSE_SECONDS, len(body) / PUBLISHED_BYTES_PER_SECOND))


async def million_items(neighbour: Neighbour) -> None:
    """Send lists of a million wrong items, and objects nested ten thousand deep."""
    million = b",".join([b"{}"] * 1_000_000)
    bodies = [
        b'{"attachments":[%b]}' % million,
        b'{"to":[%b]}' % million,
        b'{"headers":%b}' % (b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
        b"[" * MIB,
    ]
    await neighbour.post("/v1/messages", bodies)


async def wrong_reports(neighbour: Neighbour) -> None:
    """Report a thousand wrong events at a time, and many more than a thousand."""
    event = {"domain": "no domain", "kind": "x" * 100, "id": 7}
    bodies = [orjson.dumps([event] * size) for size in (1_000, 100_000)]
    await neighbour.post("/v1/events", bodies)


async def silent_connections(neighbour: Neighbour) -> None:
    """Open connections that say nothing, or one octet of their headers a second."""
    opened: list[asyncio.StreamWriter] = []
    for number in count():
        with suppress(OSError):
            if len(opened) < CONNECTIONS:
                writer = await neighbour.connection()
                opened.append(writer)
            elif number % 2:
                opened[number % CONNECTIONS].write(b"G")
        opened = [writer for writer in opened if not writer.is_closing()]
        await asyncio.sleep(1 / CONNECTIONS)


async def no_http(neighbour: Neighbour) -> None:
    """Send bytes that are no HTTP, headers without end, and requests that are cut in the middle."""
    post = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n"
    pieces = (
        b"\x16\x03\x01\x02" * 1000,
        b"GET /" + b"a" * MIB,
        post + b"X: " + b"b" * MIB,
        post + b"X: y\r\n" * 100_000,
        post + b"Expect: foo\r\n\r\n",
        post + b"Content-Length: 99999999999\r\n\r\n{",
        post + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n{",
    )
    for number in count():
        with suppress(OSError):
            writer = await neighbour.connection()
            writer.write(pieces[number % len(pieces)])
            with suppress(TimeoutError):
                await asyncio.wait_for(writer.drain(), 1)
            writer.transport.abort()
        await asyncio.sleep(PAUSE_SECONDS)


async def large_mails(neighbour: Neighbour) -> None:
    """Send newsletters with 6 MB of attachments each."""
    content = "QUJD" * (2 * MIB)
    attachments = [{"filename": "a.bin", "content_type": "image/png", "content": content}]
    await neighbour.send({"attachments": attachments, "category": "bulk"})


async def newsletters(neighbour: Neighbour) -> None:
    """Publish twenty newsletters at a time, some four hundred a second.

    Two cores that also run the relay, the broker and this client do little more: with more the
    machine would be measured, and no service.
    """
    async with neighbour.exchange() as exchange:
        for number in count():
            commands = [
                {"id": f"n-{os.getpid()}-{number}-{each}", **COMMAND, "category": "bulk"}
                for each in range(20)
            ]
            await asyncio.gather(
                *(_published(exchange, orjson.dumps(each), "email.send.bulk") for each in commands)
            )
            await asyncio.sleep(PAUSE_SECONDS)


async def replies_into_delays(neighbour: Neighbour) -> None:
    """Name others' queues in reply_to: one mail to 32 recipients, again and again."""
    to = [f"{number}@neighbour.example" for number in range(32)]
    targets = ("delay.5s", "sender.otp", "sender.transactional.dead", "mail.unrouted")
    async with asyncio.TaskGroup() as group:
        for target in targets:
            group.create_task(neighbour.publish({"to": to}, reply_to=target))


async def numbers_too_large(neighbour: Neighbour) -> None:
    """Publish numbers and times that no database can store."""
    await neighbour.publish(
        {"attempt": 2**63},
        {"attempt": 2**31},
        {"retries": 2**64 - 1},
        {"created_at": "0001-01-01T00:00:00Z"},
        {"created_at": "9999-12-31T23:59:59Z"},
        {"pending": [f"{number}@neighbour.example" for number in range(100_000)]},
    )


async def no_contracts(neighbour: Neighbour) -> None:
    """Publish bodies that are no JSON, no contract, or wrong a million times."""
    bodies = [
        b"\xff" * 1000,
        b"[" * MIB,
        b"{}",
        b'{"to":[%b]}' % b",".join([b"{}"] * 1_000_000),
        b'{"attachments":[%b]}' % b",".join([b"{}"] * 1_000_000),
    ]
    strange: HeadersType = {"x-attempt": -(2**40), "x-death": [{"count": 2**60}], "ü" * 99: "ü"}
    async with neighbour.exchange() as exchange:
        for number in count():
            body = bodies[number % len(bodies)]
            await _published(exchange, body, headers=strange)
            await _paused(body)


async def full_queues(neighbour: Neighbour) -> None:
    """Bind queues that accept nothing, or never remove anything, to all events."""
    kinds: Mapping[str, FieldTable] = {
        "refusing": {"x-max-length": 1, "x-overflow": "reject-publish"},
        "cycle": {"x-message-ttl": 0, "x-dead-letter-exchange": "mail.events"},
        "hoard": {},
    }
    for name, arguments in kinds.items():
        with suppress(aio_pika.exceptions.AMQPError):
            async with neighbour.channel() as channel:
                queue = await channel.declare_queue(f"shop.{name}", arguments=arguments)
                await queue.bind("mail.events", "email.#")
    await neighbour.publish({})


async def refused_senders(neighbour: Neighbour) -> None:
    """Send from addresses that the relay refuses, a new one each time."""
    replies = ("553-5-7-1", "550-5-7-1", "550-5-1-8", "451-4-7-1", "421-4-7-0")
    await neighbour.send(
        *(
            {"from": f"reply-mail-{reply}+{number}@neighbour.example"}
            for number in range(20)
            for reply in replies
        )
    )


async def refused_recipients(neighbour: Neighbour) -> None:
    """Send to addresses at which the relay refuses, at every stage and in many ways."""
    replies = ("550-5-1-1", "550-5-7-1", "452-4-2-2", "450-4-2-1", "554-5-7-1", "421-4-7-0")
    await neighbour.send(
        *(
            {"to": f"reply-{stage}-{reply}@neighbour.example"}
            for stage in ("rcpt", "data", "dot")
            for reply in replies
        )
    )


async def cut_connections(neighbour: Neighbour) -> None:
    """Send newsletters to addresses at which the relay cuts the connection or is slow."""
    kinds = ("drop-rcpt", "drop-data", "drop-dot", "drop-after-dot", "slow-3000-dot")
    await neighbour.send(
        *({"to": f"{kind}@neighbour.example", "category": "bulk"} for kind in kinds)
    )


NEIGHBOURS: Mapping[str, Attack] = {
    attack.__name__: attack
    for attack in (
        million_items,
        wrong_reports,
        silent_connections,
        no_http,
        large_mails,
        newsletters,
        replies_into_delays,
        full_queues,
        numbers_too_large,
        no_contracts,
        refused_senders,
        refused_recipients,
        cut_connections,
    )
}


async def main(name: str) -> None:
    """Run one neighbour until its time is over."""
    os.nice(NICENESS)
    with suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            await NEIGHBOURS[name](Neighbour(os.environ))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
