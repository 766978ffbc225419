"""How fast mails are handed over by SMTP, over TLS that is kept open, beside Postfix."""

import asyncio
import base64
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import mail, postfix, report
from benchmarks.bench import Bench, BenchError, BenchPlan, in_turns, load_average
from benchmarks.report import Series
from benchmarks.services import NAME, Vhost
from ops import ports
from ops.credentials import write_certificate
from shared.contracts import Category, address

WANTED_TIMES = 1.5
WARM_UP = 10  # mails a connection that are not measured
# Postfix discards what it has taken, while it takes more.
POSTFIX = {
    "smtpd_tls_security_level": "may",
    "default_transport": "discard:",
    "smtpd_client_connection_count_limit": "0",
}


@dataclass(frozen=True, slots=True)
class SmtpLoad:
    """Mails to hand over at a port of 127.0.0.1; with a key the client logs in over TLS."""

    port: int
    count: int
    connections: int
    key: str | None


class HandedOver(NamedTuple):
    """The mails that were accepted: the seconds in all, and those of each."""

    seconds: float
    latencies: list[float]


class SmtpClient:
    """A connection to an SMTP server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int, implicit: ssl.SSLContext | None = None) -> "SmtpClient":
        """Open a connection, greeted, to a port of 127.0.0.1. Raises BenchError."""
        client = cls(*await asyncio.open_connection("127.0.0.1", port, ssl=implicit))
        await client.expect(b"220")
        await client.say(b"EHLO bench.example", b"250")
        return client

    @classmethod
    async def secured(cls, load: SmtpLoad, context: ssl.SSLContext) -> "SmtpClient":
        """Open one that is encrypted: by STARTTLS without a key. Raises BenchError."""
        client = await cls.connect(load.port, context if load.key else None)
        if load.key is None:
            await client.start_tls(context)
        else:
            login = base64.b64encode(f"\0{NAME}\0{load.key}".encode())
            await client.say(b"AUTH PLAIN " + login, b"235")
        return client

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Encrypt the connection (RFC 3207)."""
        await self.say(b"STARTTLS", b"220")
        await self._writer.start_tls(context)
        # Python 3.11 leaves the reader with the old one, which it would pause.
        self._reader._transport = self._writer.transport  # type: ignore[attr-defined]  # noqa: SLF001
        await self.say(b"EHLO bench.example", b"250")

    async def expect(self, code: bytes) -> None:
        """Wait for a reply. Raises BenchError for another one."""
        while (line := await self._reader.readline())[3:4] == b"-":
            pass
        if not line.startswith(code):
            raise BenchError(f"the server replied {line.decode().strip()}")

    async def say(self, command: bytes, code: bytes) -> None:
        """Send a command, and wait for its reply."""
        self._writer.write(command + b"\r\n")
        await self.expect(code)

    async def send(self, content: bytes, sender: str, recipient: str) -> None:
        """Hand over a mail, its commands in one group."""
        self._writer.write(f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
        for code in (b"250", b"250", b"354"):
            await self.expect(code)
        await self.say(content + b".", b"250")

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


async def hand_over(load: SmtpLoad) -> HandedOver:
    """Hand over all mails, each over the next connection that is free."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    clients = [await SmtpClient.secured(load, context) for _ in range(load.connections)]
    latencies, left, body = list[float](), iter(range(load.count)), mail.ready_made()
    envelope = address.bare_address(mail.SENDER), mail.recipient(0)

    async def over(client: SmtpClient) -> None:
        for _ in left:
            name = uuid.uuid4().hex.encode()
            begun = time.perf_counter()
            await client.send(body.replace(b"ready-made", name), *envelope)
            latencies.append(time.perf_counter() - begun)
        client.close()

    begun = time.perf_counter()
    await asyncio.gather(*map(over, clients))
    return HandedOver(time.perf_counter() - begun, latencies)


async def measure(bench: Bench, plan: BenchPlan) -> tuple[Series, Series]:
    """Measure the door and Postfix in turns, in mails a second.

    Raises BenchError, also when an accepted mail is not on its queue.
    """
    certificate, key = bench.directory / "certificate.pem", bench.directory / "key.pem"
    await asyncio.to_thread(write_certificate, certificate, key, datetime.now(UTC))
    chain = bench.directory / "chain.pem"
    await asyncio.to_thread(_join, chain, key, certificate)
    port, tls_port = ports.unused(2)
    settings = {
        "INBOUND_SUBMISSION_CERTIFICATE": str(certificate),
        "INBOUND_SUBMISSION_CERTIFICATE_KEY": str(key),
        "INBOUND_SUBMISSION_PORT": str(port),
        "INBOUND_SUBMISSION_TLS_PORT": str(tls_port),
    }
    async with AsyncExitStack() as opened:
        vhost = await opened.enter_async_context(Vhost.opened(bench))
        gateway = await opened.enter_async_context(vhost.gateway())
        await opened.enter_async_context(vhost.running("inbound", None, **settings))
        given = POSTFIX | {"smtpd_tls_chain_files": str(chain)}
        rival, _ = await opened.enter_async_context(postfix.serving(bench, given))
        ours = SmtpLoad(tls_port, plan.count, plan.connections, gateway.key)
        theirs = SmtpLoad(rival.port, plan.count, plan.connections, None)
        for load in (ours, theirs):
            warm = SmtpLoad(load.port, WARM_UP * load.connections, load.connections, load.key)
            await bench.call(hand_over, warm)
        found = await in_turns(
            {
                "the submission door": partial(bench.call, hand_over, ours),
                "Postfix": partial(bench.call, hand_over, theirs),
            },
            plan.repetitions,
        )
        kept = await vhost.waiting_mails(Category.TRANSACTIONAL)
    accepted = plan.count * plan.repetitions + WARM_UP * plan.connections
    if kept != accepted:
        raise BenchError(f"{accepted} mails were accepted, {kept} are on the queue")
    first, second = (_series(name, each) for name, each in found.items())
    return first, second


def _join(chain: Path, *parts: Path) -> None:
    chain.write_text("".join(each.read_text() for each in parts))


def _series(name: str, found: Sequence[HandedOver]) -> Series:
    rates = [len(each.latencies) / each.seconds for each in found]
    return Series(name, rates, [latency for each in found for latency in each.latencies])


async def lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure, and yield the table and its verdict."""
    yield (
        f"\n{plan.count:,} mails over {plan.connections} SMTP connections with TLS,"
        f" {plan.repetitions} times in turns; {load_average()}"
    )
    ours, rival = await measure(bench, plan)
    yield report.table("mails/s", [ours, rival])
    yield report.times(ours, rival, WANTED_TIMES)
