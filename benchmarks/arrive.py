"""How long a mail takes to the SMTP server: a code's, idle and busy, and one behind a backlog.

A code counts from `POST /v1/otp` on, with nothing else to do, and then while newsletters wait and
are sent. A bulk mail counts from its publish on, while those of another client wait.
"""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from benchmarks import codes, mail, report
from benchmarks.bench import Bench, BenchError, BenchPlan
from benchmarks.report import Series
from benchmarks.services import MeasuredGateway, Vhost
from benchmarks.sink import Discard
from ops.load.http import HttpConnection
from shared.contracts import Category
from shared.topology import SHARDS, shard_of

IDLE_P99_SECONDS = 0.015  # wanted with nothing else to do
BUSY_P99_SECONDS = 0.030  # wanted while newsletters wait
BACKLOG_P99_SECONDS = 1.0  # wanted for a mail of another client behind the backlog
CODES, MAILS = 500, 200  # measured, one after the other
_WARM_UP = 20  # codes
_ARRIVAL_SECONDS = 30.0  # then a mail counts as lost
_RECIPIENT = re.compile(rb"<([^>]*)>")
_ACCEPTED = 202


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

    async def latency(self, request: Callable[[str], Awaitable[object]]) -> float:
        """Request a mail to an address of its own, and return the seconds until it has come."""
        email = f"{secrets.token_hex(8)}@bench.example"
        self.expect(email)
        begun = time.perf_counter()
        await request(email)
        return await self.wait(email) - begun

    async def series(
        self, name: str, request: Callable[[str], Awaitable[object]], count: int
    ) -> Series:
        """Request so many mails, one after the other, and time them."""
        begun = time.perf_counter()
        latencies = [await self.latency(request) for _ in range(count)]
        return Series(name, [count / (time.perf_counter() - begun)], latencies)

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
async def backlog(vhost: Vhost, waiting: int, client: str | None) -> AsyncIterator[Arrivals]:
    """Send the waiting newsletters of a client meanwhile.

    Raises BenchError, also when none is left at the end of the block.
    """
    arrivals, first = Arrivals(), mail.recipient(0)
    async with serving(arrivals) as smtp_port:
        await vhost.fill([f"bulk-{n}" for n in range(waiting)], Category.BULK, (client,))
        arrivals.expect(first)
        async with vhost.sender(smtp_port):
            await arrivals.wait(first)
            yield arrivals
            if not await vhost.waiting_mails(Category.BULK):
                raise BenchError("the backlog was sent before the other mails")


async def measure(bench: Bench, count: int, waiting: int) -> Sequence[Series]:
    """Measure codes with nothing else to do, and with newsletters waiting. Raises BenchError."""
    async with AsyncExitStack() as opened:
        vhost = await opened.enter_async_context(Vhost.opened(bench))
        gateway = await opened.enter_async_context(vhost.gateway())
        await opened.enter_async_context(codes.otp(vhost))
        connection = await HttpConnection.connect(gateway.url)
        opened.callback(connection.close)
        request, idle = partial(_request_code, gateway, connection), Arrivals()
        async with serving(idle) as smtp_port, vhost.sender(smtp_port):
            await idle.series("", request, _WARM_UP)
            found = [await idle.series("with nothing else to do", request, count)]
        async with backlog(vhost, waiting, None) as busy:
            name = f"with {waiting:,} newsletters waiting"
            return [*found, await busy.series(name, request, count)]


async def _request_code(gateway: MeasuredGateway, connection: HttpConnection, email: str) -> None:
    answer = await connection.request(gateway.request("POST", "/v1/otp", {"email": email}))
    if answer.status != _ACCEPTED:
        raise BenchError(f"POST /v1/otp was answered by {answer.status}")


def clients() -> Sequence[str]:
    """Return a client of each shard, so that no two of them share one."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < SHARDS:
        found.setdefault(shard_of(f"client-{number}"), f"client-{number}")
        number += 1
    return list(found.values())


async def behind_backlog(bench: Bench, count: int, waiting: int) -> Series:
    """Time bulk mails of a client from the publish on, while so many of another wait."""
    big, small, *_ = clients()
    async with Vhost.opened(bench) as vhost, backlog(vhost, waiting, big) as arrivals:

        async def request(email: str) -> None:
            update = {"category": Category.BULK, "client": small}
            await vhost.broker.publish(
                mail.command(secrets.token_hex(8), email).model_copy(update=update)
            )

        return await arrivals.series(f"behind {waiting:,} of another client", request, count)


async def lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure codes, and yield the table and its verdicts."""
    yield f"\n{CODES:,} codes, one after the other, from the request to the SMTP server:"
    idle, busy = await measure(bench, CODES, plan.waiting)
    yield report.table("codes/s", [busy, idle])
    yield report.soon(idle, IDLE_P99_SECONDS)
    yield report.soon(busy, BUSY_P99_SECONDS)


async def backlog_lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure mails behind a backlog, and yield the table and its verdict."""
    yield f"\n{MAILS:,} bulk mails, one after the other, from the publish to the server:"
    behind = await behind_backlog(bench, MAILS, plan.waiting)
    yield report.table("mails/s", [behind])
    yield f"  the first: {behind.latencies[0]:.3f} s"
    yield report.soon(behind, BACKLOG_P99_SECONDS)
