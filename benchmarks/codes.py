"""How fast codes are verified through HTTP and RabbitMQ, the right ones and wrong ones.

Each request is about an address of its own. A right code is used up, which takes a second commit.
The mails with the codes are read in the sender's place.
"""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Self

import orjson

from benchmarks import accept
from benchmarks.accept import Gateway, HttpPlan, HttpTask
from benchmarks.bench import Bench, BenchError
from benchmarks.report import Series
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
WANTED_RATE = 2300.0  # verifications a second
WANTED_P99_SECONDS = 0.050
_VERIFIED, _REFUSED = '"verified":true', '"verified":false'
_WARM_UP = 10  # requests a connection that are not measured
_BATCH_SIZE = 500  # commands
_STALL_SECONDS = 30.0  # without a mail


@dataclass(frozen=True, slots=True)
class OtpKeys:
    """The keys of one otp service."""

    otp_key: str
    sealing_key: str

    @classmethod
    def drawn(cls) -> Self:
        """Return random ones."""
        return cls(secrets.token_hex(32), secrets.token_hex(32))


@asynccontextmanager
async def running(bench: Bench, amqp_url: str, keys: OtpKeys, data: Path) -> AsyncIterator[None]:
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
class CodeReader:
    """Reads the mails with codes as the sender does; keeps the codes by recipient."""

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
    broker: Broker, keys: OtpKeys, client: str, emails: Sequence[str]
) -> Mapping[str, str]:
    """Issue a code for each address; return them by address. Raises BenchError."""
    reader = CodeReader(Sealer.from_text(keys.sealing_key))
    mails = Subscription(sending_queue(Category.OTP), {SendEmail: reader.take}, _BATCH_SIZE)
    async with broker.consuming(mails):
        for start in range(0, len(emails), _BATCH_SIZE):
            batch = emails[start : start + _BATCH_SIZE]
            commands = [
                IssueCode(id=secrets.token_hex(16), email=email, client=client) for email in batch
            ]
            await asyncio.gather(*map(broker.publish, commands))
        return await reader.filled(len(emails))


CodePairs = Sequence[tuple[str, str]]  # addresses and their codes


async def measure(bench: Bench, plan: HttpPlan) -> Sequence[Series]:
    """Measure right and wrong codes in turns. Raises BenchError, also for a wrong answer."""
    keys, warm_up = OtpKeys.drawn(), _WARM_UP * plan.connections
    async with (
        bench.vhost() as amqp_url,
        Broker.connect(amqp_url, accept.NAME) as broker,
        accept.running(bench, amqp_url) as gateway,
        running(bench, amqp_url, keys, bench.directory / "verify"),
    ):
        emails = [f"user{n}@bench.example" for n in range(warm_up + plan.count * plan.repetitions)]
        known = iter((await issued(broker, keys, accept.NAME, emails)).items())
        await _both(bench, gateway, plan, list(islice(known, warm_up)))
        rounds = [
            await _both(bench, gateway, plan, list(islice(known, plan.count)))
            for _ in range(plan.repetitions)
        ]
    wrong, right = zip(*rounds, strict=True)
    return [accept.series("right codes", right), accept.series("wrong codes", wrong)]


async def _both(
    bench: Bench, gateway: Gateway, plan: HttpPlan, known: CodePairs
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Guess wrong at each code, then right."""
    wrong = [(email, _other(code)) for email, code in known]
    return (
        await accept.loaded(bench, _task(gateway, plan, wrong, _REFUSED)),
        await accept.loaded(bench, _task(gateway, plan, known, _VERIFIED)),
    )


def _task(gateway: Gateway, plan: HttpPlan, guesses: CodePairs, expected: str) -> HttpTask:
    return HttpTask(
        gateway.port,
        "POST",
        "/v1/otp/verify",
        len(guesses),
        plan.connections,
        headers=gateway.headers,
        bodies=[orjson.dumps({"email": email, "code": code}).decode() for email, code in guesses],
        expected=expected,
    )


def _other(code: str) -> str:
    """Return a code that is wrong."""
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}}"
