"""How fast the gateway accepts messages, one by one and in batches, beside its `/ping`.

Run as a module this is the load generator, in a process of its own: it reads an HttpTask as JSON
from standard input and writes what it measured to standard output.
"""

import asyncio
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import repeat
from typing import Any

import aiohttp
import orjson
import uvloop
from yarl import URL

from benchmarks import mail
from benchmarks.bench import Bench, BenchError
from benchmarks.drain import waiting_in_class
from benchmarks.report import Series
from ops import ports
from ops.load import http
from ops.load.http import HttpConnection
from services.gateway.clients import idempotency
from shared.broker import Broker
from shared.contracts import Category

NAME = "bench"  # of our connection to the broker
WANTED_RATE = 2500.0  # requests a second, each with an Idempotency-Key
WANTED_P99_SECONDS = 0.030
WANTED_BATCH_RATE = 12_000.0  # mails a second
BATCH_SIZE = 100  # mails
BATCH_FACTOR = 2  # as many mails in batches as single ones
SERVICE = "services.gateway"
GATEWAY = (sys.executable, "-m", SERVICE)
ACCEPTED = "202"
OK = "200"
_WARM_UP = 10  # requests a connection that are not measured
_LOAD_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class HttpPlan:
    """How many requests over how many HTTP connections, how often."""

    count: int
    connections: int
    repetitions: int


@dataclass(frozen=True, slots=True)
class HttpTask:
    """Send `count` requests over `connections` to a port of 127.0.0.1.

    All of them have `body`, or each one of `bodies`; or each has one of `paths`. With `keys` each
    has an Idempotency-Key of its own that begins so. An answer without `expected` in it does not
    count under its status.
    """

    port: int
    method: str
    path: str
    count: int
    connections: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    bodies: Sequence[str] = ()
    keys: str = ""
    paths: Sequence[str] = ()
    expected: str = ""

    @property
    def url(self) -> URL:
        """The URL of all requests."""
        return URL(f"http://127.0.0.1:{self.port}{self.path}")

    def requests(self) -> Iterator[bytes]:
        """Return the octets of each request."""
        if self.keys:
            named = ({idempotency.HEADER: f"{self.keys}{number}"} for number in range(self.count))
            return (self._request(self.body, name) for name in named)
        if self.paths:
            return iter([self._request(self.body, path=path) for path in self.paths])
        if not self.bodies:
            return repeat(self._request(self.body), self.count)
        return iter([self._request(body) for body in self.bodies])

    def _request(
        self, body: str, more: Mapping[str, str] | None = None, path: str | None = None
    ) -> bytes:
        url = self.url if path is None else self.url.join(URL(path))
        headers = {**self.headers, **(more or {})}
        return http.encode_request(self.method, url, headers, body.encode())


class HttpLoad:
    """All requests of a task, whichever connection they take."""

    def __init__(self, task: HttpTask) -> None:
        self.statuses: Counter[str] = Counter()
        self.latencies: list[float] = []  # seconds
        self._requests = task.requests()
        self._expected = task.expected.encode()

    async def over(self, connection: HttpConnection) -> None:
        """Send requests until there are none; a connection that is lost ends it, as counts tell."""
        with suppress(ConnectionError):
            for request in self._requests:
                begun = time.perf_counter()
                answer = await connection.request(request)
                self.latencies.append(time.perf_counter() - begun)
                odd = "" if self._expected in answer.body else " of another text"
                self.statuses[f"{answer.status}{odd}"] += 1
        connection.close()


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway and the key of one of its clients."""

    port: int
    key: str

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of a request with JSON."""
        return {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}

    def post(self, plan: HttpPlan, keys: str = "") -> HttpTask:
        """Return the load of messages, each with an Idempotency-Key that begins with `keys`."""
        return replace(
            self.ping(plan),
            method="POST",
            path="/v1/messages",
            headers=self.headers,
            body=orjson.dumps(_message(0)).decode(),
            keys=keys,
        )

    def post_batches(self, plan: HttpPlan, keys: str) -> HttpTask:
        """Return the load of batches, each of BATCH_SIZE messages and with a key."""
        messages = [_message(number) for number in range(BATCH_SIZE)]
        return replace(
            self.post(plan, keys),
            path="/v1/messages/batch",
            body=orjson.dumps({"messages": messages}).decode(),
        )

    def ping(self, plan: HttpPlan) -> HttpTask:
        """Return the load of pings."""
        return HttpTask(self.port, "GET", "/ping", plan.count, plan.connections)


def _message(number: int) -> Mapping[str, str]:
    to = mail.recipient(number)
    return {"to": to, "subject": mail.SUBJECT, "text": mail.TEXT, "html": mail.HTML}


@dataclass(slots=True)
class AcceptedLoads:
    """The loads of one kind: the mails of each request, and what was measured."""

    name: str
    mails: int
    seen: list[Mapping[str, Any]] = field(default_factory=list)


async def measure(
    bench: Bench, plan: HttpPlan, command: Sequence[str] = GATEWAY
) -> Sequence[Series]:
    """Measure messages without and with a key, batches and pings, in mails a second.

    They take turns, so that a disturbance of the machine meets all. Raises BenchError, also when an
    accepted message is not on its queue.
    """
    async with bench.vhost() as amqp_url, Broker.connect(amqp_url, NAME) as broker:
        async with running(bench, amqp_url, command) as gateway:
            warm_up = replace(plan, count=_WARM_UP * plan.connections, repetitions=1)
            accepted = sum(_mails(await _turns(bench, gateway, warm_up)))
            turns = await _turns(bench, gateway, plan)
            accepted += sum(_mails(turns))
        kept = await waiting_in_class(broker, Category.TRANSACTIONAL)
    if kept != accepted:
        raise BenchError(f"{accepted} messages were accepted, {kept} are on the queue")
    return [series(each.name, each.seen, each.mails or 1) for each in turns]


def _mails(turns: Sequence[AcceptedLoads]) -> Sequence[int]:
    return [each.mails * len(one["latencies"]) for each in turns for one in each.seen]


async def _turns(bench: Bench, gateway: Gateway, plan: HttpPlan) -> Sequence[AcceptedLoads]:
    posts = AcceptedLoads("POST /v1/messages", 1)
    keyed = AcceptedLoads("POST /v1/messages with a key", 1)
    batches = AcceptedLoads(f"batches of {BATCH_SIZE} with a key", BATCH_SIZE)
    pings = AcceptedLoads("GET /ping", 0)
    few = replace(plan, count=max(1, BATCH_FACTOR * plan.count // BATCH_SIZE))
    for _ in range(plan.repetitions):
        keys = secrets.token_hex(8)
        posts.seen.append(await loaded(bench, gateway.post(plan), ACCEPTED))
        keyed.seen.append(await loaded(bench, gateway.post(plan, keys), ACCEPTED))
        batches.seen.append(await loaded(bench, gateway.post_batches(few, keys), ACCEPTED))
        pings.seen.append(await loaded(bench, gateway.ping(plan), OK))
    return [posts, keyed, batches, pings]


async def loaded(bench: Bench, task: HttpTask, expected: str = OK) -> Mapping[str, Any]:
    """Make a load in a process. Raises BenchError when an answer was not as expected."""
    seen: Mapping[str, Any] = await bench.ask("benchmarks.accept", asdict(task), _LOAD_SECONDS)
    if seen["statuses"] != {expected: task.count}:
        raise BenchError(f"{task.method} {task.path} was answered by {seen['statuses']}")
    return seen


def series(name: str, seen: Sequence[Mapping[str, Any]], mails: int = 1) -> Series:
    """Return the rates, of so many mails a request, and the latencies of some loads."""
    return Series(
        name,
        rates=[mails * len(each["latencies"]) / each["seconds"] for each in seen],
        latencies=[latency for each in seen for latency in each["latencies"]],
    )


@asynccontextmanager
async def running(
    bench: Bench, amqp_url: str, command: Sequence[str] = GATEWAY
) -> AsyncIterator[Gateway]:
    """Run a gateway with one client until the block is left. Raises BenchError."""
    [port] = ports.unused(1)
    admin_token = secrets.token_hex(32)
    environment = {
        "AMQP_URL": amqp_url,
        "DATA_DIR": str(bench.directory / f"data-{port}"),  # each gateway knows no client yet
        "GATEWAY_PORT": str(port),
        "GATEWAY_ADMIN_TOKEN": admin_token,
        "GATEWAY_KEY_SECRET": secrets.token_hex(32),
    }
    async with bench.running("gateway", command, environment) as process:
        await bench.listening("gateway", process, port)
        yield Gateway(port, await _register(port, admin_token))


async def _register(port: int, admin_token: str) -> str:
    """Register a client and return its key. Raises BenchError."""
    headers = {"Authorization": f"Bearer {admin_token}"}
    try:
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session,
            session.post("/v1/clients", json={"id": NAME}, raise_for_status=True) as response,
        ):
            return str((await response.json())["api_key"])
    except aiohttp.ClientError as error:
        raise BenchError(f"the gateway registers no client: {error}") from error


async def call(task: HttpTask) -> Mapping[str, Any]:
    """Send all requests; return the seconds, the count of each status, and the latencies."""
    load = HttpLoad(task)
    connections = [await HttpConnection.connect(task.url) for _ in range(task.connections)]
    begun = time.perf_counter()
    await asyncio.gather(*map(load.over, connections))
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "statuses": load.statuses, "latencies": load.latencies}


if __name__ == "__main__":
    found = uvloop.run(call(HttpTask(**orjson.loads(sys.stdin.buffer.read()))))
    sys.stdout.buffer.write(orjson.dumps(found))
