"""How long a code takes from `POST /v1/otp` to the end of its mail at the SMTP server.

One after the other, with nothing else to do, and then while newsletters wait and are sent.
"""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
from yarl import URL

from benchmarks import accept, codes, drain, mail
from benchmarks.accept import ACCEPTED, Gateway
from benchmarks.bench import Bench, BenchError
from benchmarks.report import Series
from benchmarks.sink import Discard
from ops import ports
from ops.load import http
from ops.load.http import HttpConnection
from shared.broker import Broker
from shared.contracts import Category
from shared.topology import sending_queue

IDLE_P99_SECONDS = 0.015  # wanted with nothing else to do
BUSY_P99_SECONDS = 0.030  # wanted while newsletters wait
_WARM_UP = 20  # codes
_ARRIVAL_SECONDS = 30.0  # then a mail counts as lost
_RECIPIENT = re.compile(rb"<([^>]*)>")


@dataclass(frozen=True, slots=True)
class ArrivalPlan:
    """So many codes, each twice: without anything else, and with so many newsletters waiting."""

    count: int
    waiting: int


class Arrivals:
    """The times at which mails arrived, by recipient, of the clock `time.perf_counter`."""

    def __init__(self) -> None:
        self._expected: dict[bytes, asyncio.Future[float]] = {}

    def expect(self, email: str) -> asyncio.Future[float]:
        """Return the future time of a mail, from now on."""
        return self._expected.setdefault(email.encode(), asyncio.Future())

    async def wait(self, email: str) -> float:
        """Wait for the time of a mail. Raises BenchError when there is none."""
        try:
            async with asyncio.timeout(_ARRIVAL_SECONDS):
                return await self.expect(email)
        except TimeoutError:
            raise BenchError(f"the mail to {email} did not come") from None
        finally:
            self._expected.pop(email.encode(), None)

    def arrived(self, email: bytes) -> None:
        """Record the time of a mail."""
        expected = self._expected.get(email)
        if expected is not None and not expected.done():
            expected.set_result(time.perf_counter())


class _Inbox(Discard):
    """One connection to our SMTP server."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._recipient = b""

    def named(self, recipient: bytes) -> None:
        """Remember the recipient of the next mail."""
        found = _RECIPIENT.search(recipient)
        self._recipient = found[1] if found else b""

    def ended(self) -> None:
        """Record its arrival."""
        self._arrivals.arrived(self._recipient)


async def measure(bench: Bench, plan: ArrivalPlan) -> Sequence[Series]:
    """Measure both. Raises BenchError, also when no newsletter is left at the end."""
    keys, arrivals = codes.OtpKeys.drawn(), Arrivals()
    async with (
        bench.vhost() as amqp_url,
        Broker.connect(amqp_url, accept.NAME) as broker,
        accept.running(bench, amqp_url) as gateway,
        codes.running(bench, amqp_url, keys, bench.directory / "arrive"),
        serving(arrivals) as smtp_port,
    ):
        requests = _CodeRequests(gateway, arrivals)
        async with _sender(bench, amqp_url, smtp_port, keys):
            await requests.series("", _WARM_UP)
            idle = await requests.series("with nothing else to do", plan.count)
        await drain.fill(broker, [f"bulk-{n}" for n in range(plan.waiting)], Category.BULK)
        arrivals.expect(mail.recipient(0))
        async with _sender(bench, amqp_url, smtp_port, keys):
            await arrivals.wait(mail.recipient(0))
            busy = await requests.series(f"with {plan.waiting:,} newsletters waiting", plan.count)
            if not await drain.waiting_in(broker, sending_queue(Category.BULK)):
                raise BenchError("the newsletters were sent before the codes")
    return [idle, busy]


@dataclass(frozen=True, slots=True)
class _CodeRequests:
    """Codes that are asked for, one after the other."""

    gateway: Gateway
    arrivals: Arrivals

    async def series(self, name: str, count: int) -> Series:
        """Request so many, one after the other, and time their mails."""
        url = URL(f"http://127.0.0.1:{self.gateway.port}/v1/otp")
        connection, begun = await HttpConnection.connect(url), time.perf_counter()
        latencies = [await self._latency(connection, url) for _ in range(count)]
        connection.close()
        return Series(name, [count / (time.perf_counter() - begun)], latencies)

    async def _latency(self, connection: HttpConnection, url: URL) -> float:
        email = f"{secrets.token_hex(8)}@bench.example"
        body = orjson.dumps({"email": email})
        self.arrivals.expect(email)
        begun = time.perf_counter()
        answer = await connection.request(
            http.encode_request("POST", url, self.gateway.headers, body)
        )
        if str(answer.status) != ACCEPTED:
            raise BenchError(f"POST /v1/otp was answered by {answer.status}")
        return await self.arrivals.wait(email) - begun


@asynccontextmanager
async def serving(arrivals: Arrivals) -> AsyncIterator[int]:
    """Run an SMTP server that records arrivals; the value is its port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Inbox(arrivals), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def _sender(
    bench: Bench, amqp_url: str, smtp_port: int, keys: codes.OtpKeys
) -> AsyncIterator[None]:
    [health_port] = ports.unused(1)
    settings = drain.settings(bench, amqp_url, smtp_port, 4, health_port)
    environment: Mapping[str, str] = {**settings, "SEALING_KEY": keys.sealing_key}
    async with bench.running("sender", drain.SENDER, environment) as process:
        await bench.listening("sender", process, health_port)
        yield
