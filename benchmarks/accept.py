"""How fast the gateway accepts messages, one by one and in batches, beside its `/ping`."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import NamedTuple

import orjson
from yarl import URL

from benchmarks import mail, report
from benchmarks.bench import Bench, BenchError, BenchPlan, in_turns, load_average
from benchmarks.report import Series
from benchmarks.services import MeasuredGateway, Vhost
from ops.load.http import HttpConnection
from shared.contracts import Category

WANTED_RATE = 2500.0  # requests a second, each with an Idempotency-Key
WANTED_P99_SECONDS = 0.030
WANTED_BATCH_RATE = 12_000.0  # mails a second
BATCH_SIZE = 100  # mails
BATCH_FACTOR = 2  # as many mails in batches as single ones
WARM_UP = 10  # requests a connection that are not measured
PATH = "/v1/messages"
OK, ACCEPTED = HTTPStatus.OK, HTTPStatus.ACCEPTED
SINGLE, KEYED, PINGS = f"POST {PATH}", f"POST {PATH} with a key", "GET /ping"
BATCHES = f"batches of {BATCH_SIZE} with a key"
TEMPLATED = f"templates for {BATCH_SIZE} with a key"


@dataclass(frozen=True, slots=True)
class HttpLoad:
    """Requests to send to a port of 127.0.0.1.

    An answer without `expected` in it does not count under its status.
    """

    port: int
    requests: Sequence[bytes]
    connections: int
    expected: bytes = b""


class HttpAnswers(NamedTuple):
    """The answers to a load: seconds in all, the count of each status, and seconds of each."""

    seconds: float
    statuses: Counter[str]
    latencies: list[float]


async def send(load: HttpLoad) -> HttpAnswers:
    """Send all requests, each over the next connection that is free."""
    statuses, latencies, requests = Counter[str](), list[float](), iter(load.requests)

    async def over(connection: HttpConnection) -> None:
        # A connection that is lost ends it, as counts tell.
        with suppress(ConnectionError):
            for request in requests:
                begun = time.perf_counter()
                answer = await connection.request(request)
                latencies.append(time.perf_counter() - begun)
                odd = "" if load.expected in answer.body else " of another text"
                statuses[f"{answer.status}{odd}"] += 1
        connection.close()

    url = URL(f"http://127.0.0.1:{load.port}")
    connections = [await HttpConnection.connect(url) for _ in range(load.connections)]
    begun = time.perf_counter()
    await asyncio.gather(*map(over, connections))
    return HttpAnswers(time.perf_counter() - begun, statuses, latencies)


async def answers(bench: Bench, load: HttpLoad, status: int = OK) -> HttpAnswers:
    """Make a load in a process of its own. Raises BenchError when an answer has another status."""
    found = await bench.call(send, load)
    if found.statuses != {str(status): len(load.requests)}:
        line = load.requests[0].partition(b" HTTP")[0].decode()
        raise BenchError(f"{line} was answered by {dict(found.statuses)}")
    return found


def series(name: str, found: Sequence[HttpAnswers], mails: int = 1) -> Series:
    """Return the rates, of so many mails a request, and the latencies of some loads."""
    return Series(
        name,
        rates=[mails * len(each.latencies) / each.seconds for each in found],
        latencies=[latency for each in found for latency in each.latencies],
    )


@dataclass(frozen=True, slots=True)
class RequestKind:
    """One kind of request: the mails that each asks for, and whether it has an Idempotency-Key."""

    method: str
    path: str
    mails: int = 0
    body: bytes = b""
    keyed: bool = True

    def load(self, gateway: MeasuredGateway, count: int, connections: int) -> HttpLoad:
        """Return so many requests; batches are fewer, of BATCH_FACTOR times as many mails."""
        if self.mails > 1:
            count = max(1, BATCH_FACTOR * count // self.mails)
        run = secrets.token_hex(8)
        keys = [f"{run}{number}" if self.keyed else None for number in range(count)]
        requests = [gateway.request(self.method, self.path, self.body, key) for key in keys]
        return HttpLoad(gateway.port, requests, connections)


def kinds() -> Mapping[str, RequestKind]:
    """Return what is measured; the last is the baseline."""
    content = {"subject": mail.SUBJECT, "text": mail.TEXT, "html": mail.HTML}
    recipients = [mail.recipient(number) for number in range(BATCH_SIZE)]
    single = orjson.dumps({"to": recipients[0], **content})
    batch = {"messages": [{"to": each, **content} for each in recipients]}
    templated = {
        "template": {
            name: f"{{{{ greeting }}}} {{{{ name }}}}: {text}" for name, text in content.items()
        },
        "recipients": [
            {"to": each, "variables": {"greeting": "Hello", "name": each}} for each in recipients
        ],
    }
    return {
        SINGLE: RequestKind("POST", PATH, 1, single, keyed=False),
        KEYED: RequestKind("POST", PATH, 1, single),
        BATCHES: RequestKind("POST", f"{PATH}/batch", BATCH_SIZE, orjson.dumps(batch)),
        TEMPLATED: RequestKind("POST", f"{PATH}/batch", BATCH_SIZE, orjson.dumps(templated)),
        PINGS: RequestKind("GET", "/ping", keyed=False),
    }


async def measure(bench: Bench, plan: BenchPlan) -> Mapping[str, Series]:
    """Measure each kind in turns, in mails a second.

    Raises BenchError, also when an accepted message is not on its queue.
    """
    accepted = 0

    async def measured(gateway: MeasuredGateway, kind: RequestKind, count: int) -> HttpAnswers:
        nonlocal accepted
        found = await answers(
            bench, kind.load(gateway, count, plan.callers), ACCEPTED if kind.mails else OK
        )
        accepted += kind.mails * len(found.latencies)
        return found

    async with Vhost.opened(bench) as vhost:
        async with vhost.gateway() as gateway:
            for each in kinds().values():
                await measured(gateway, each, WARM_UP * plan.callers)
            found = await in_turns(
                {
                    name: partial(measured, gateway, kind, plan.count)
                    for name, kind in kinds().items()
                },
                plan.repetitions,
            )
        kept = await vhost.waiting_mails(Category.TRANSACTIONAL)
    if kept != accepted:
        raise BenchError(f"{accepted} messages were accepted, {kept} are on the queue")
    return {name: series(name, each, kinds()[name].mails or 1) for name, each in found.items()}


async def lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure, and yield the table and its verdicts."""
    yield (
        f"\n{plan.count:,} requests over {plan.callers} HTTP connections, {plan.repetitions} times"
        f" in turns; {load_average()}"
    )
    found = await measure(bench, plan)
    yield report.table("mails/s", list(found.values()))
    yield report.fast(found[KEYED], WANTED_RATE, WANTED_P99_SECONDS)
    yield report.at_least(found[BATCHES], WANTED_BATCH_RATE)
