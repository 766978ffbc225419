"""Codes for whom there is nobody: an otp service, and its mails read in the sender's place."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import orjson

from benchmarks.bench import Bench
from benchmarks.errors import BenchError
from ops import ports
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import Category, Contract, IssueCode, SendEmail, address
from shared.runtime.sealing import Sealer
from shared.topology import sending_queue

OTP = (sys.executable, "-m", "services.otp")
UNLIMITED = {
    f"OTP_{each}": "0"
    for each in (
        *("RECIPIENT_HOURLY", "RECIPIENT_DAILY", "CLIENT_HOURLY", "IP_HOURLY"),
        *("DOMAIN_HOURLY", "TOTAL_HOURLY"),
    )
} | {"OTP_CLIENT_FAILURES": "1000000000"}  # counted all the same: that is a part of the cost
_BATCH = 500  # commands
_STALL_SECONDS = 30.0  # without a mail


@dataclass(frozen=True, slots=True)
class Secrets:
    """The keys of one otp service."""

    otp_key: str
    sealing_key: str

    @classmethod
    def drawn(cls) -> Self:
        """Give some."""
        return cls(secrets.token_hex(32), secrets.token_hex(32))


@asynccontextmanager
async def running(bench: Bench, amqp_url: str, keys: Secrets, data: Path) -> AsyncIterator[None]:
    """Run an otp service without limits until the block is left. Raises BenchError."""
    [port] = ports.unused(1)
    environment = {
        "AMQP_URL": amqp_url,
        "DATA_DIR": str(data),
        "HEALTH_PORT": str(port),
        "OTP_KEY": keys.otp_key,
        "SEALING_KEY": keys.sealing_key,
        **UNLIMITED,
    }
    async with bench.running("otp", OTP, environment) as process:
        await bench.listening("otp", process, port)
        yield


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Opens the mails with codes as the sender does, and keeps the codes by their recipients."""

    sealer: Sealer
    codes: dict[str, str] = field(default_factory=dict)
    come: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, mail: SendEmail) -> Sequence[Contract]:
        """Read a mail. Its second copy has the same code."""
        opened = orjson.loads(self.sealer.open(mail.sealed or "", context=mail.id))
        [code] = (line for line in opened["text"].splitlines() if line.isdecimal())
        self.codes[address.bare_address(mail.to[0])] = code
        self.come.set()
        return []

    async def filled(self, count: int) -> Mapping[str, str]:
        """Wait for so many codes. Raises BenchError when they stop to come."""
        while len(self.codes) < count:
            self.come.clear()
            try:
                async with asyncio.timeout(_STALL_SECONDS):
                    await self.come.wait()
            except TimeoutError:
                missing = count - len(self.codes)
                raise BenchError(f"{missing} codes were not mailed") from None
        return self.codes


async def issued(
    broker: Broker, keys: Secrets, client: str, emails: Sequence[str]
) -> Mapping[str, str]:
    """Have a code issued for each address and give them by address. Raises BenchError."""
    mailbox = Mailbox(Sealer.from_text(keys.sealing_key))
    mails = Subscription(sending_queue(Category.OTP), {SendEmail: mailbox.take}, _BATCH)
    async with broker.consuming(mails):
        for start in range(0, len(emails), _BATCH):
            batch = emails[start : start + _BATCH]
            commands = [
                IssueCode(id=secrets.token_hex(16), email=email, client=client) for email in batch
            ]
            await asyncio.gather(*map(broker.publish, commands))
        return await mailbox.filled(len(emails))
