"""The services under measurement: real processes, on a vhost of their own."""

import asyncio
import secrets
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import aiohttp
import orjson
import psutil
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from benchmarks import mail
from benchmarks.bench import POSTGRESQL, Bench, BenchError, hotspots, peak_memory, profiling
from ops import ports, topology
from ops.load import http
from ops.postgres import PostgresAccount, PostgresError, PostgresPrograms, PostgresServer
from shared.broker import Broker
from shared.contracts import Category, Contract
from shared.topology import Owner, sending_queue, shard_queues

LOOK_SECONDS = 0.1  # between two looks at the metrics, each of which costs 2 ms
NAME = "bench"  # of our connection to the broker, and of our client
NO_CLIENT: Sequence[str | None] = (None,)
# Without the services that are not run, whose queues of events would fill up beside a drain.
MEASURED: Sequence[Owner] = tuple(
    each for each in Owner if each not in {Owner.SCHEDULER, Owner.WEBHOOKS}
)
_MAX_PUBLISHING = 100  # messages at once: each publishing has but seconds


@dataclass(frozen=True, slots=True)
class MeasuredService:
    """A running service, and the port of its HTTP server."""

    process: Process
    port: int

    @property
    def memory(self) -> int:
        """The most octets that it ever had in memory."""
        return peak_memory(self.process.pid)

    @property
    def processor(self) -> float:
        """The seconds of processor time that it has taken."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    async def metrics(self) -> Sequence[Metric]:
        """Return its metrics. Raises BenchError."""
        url = f"http://127.0.0.1:{self.port}/metrics"
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(url, raise_for_status=True) as response,
            ):
                return list(text_string_to_metric_families(await response.text()))
        except aiohttp.ClientError as error:
            raise BenchError(f"the service shows no metrics: {error}") from error

    async def rate(self, count: int, name: str, **labels: str) -> float:
        """Wait until a metric is at `count`; return its rate, a second, from the first look on.

        Raises BenchError if it was there at the first look.
        """
        first, begun = 0.0, 0.0
        while True:
            metrics, now = await self.metrics(), time.perf_counter()
            done = total(metrics, name, **labels)
            if done >= count:
                break
            if done and not begun:
                first, begun = done, now
            await asyncio.sleep(LOOK_SECONDS)
        if not begun:
            raise BenchError("all was done at the first look: measure more of it")
        return (done - first) / (now - begun)


def total(metrics: Iterable[Metric], name: str, **labels: str) -> float:
    """Return the sum of all samples of a name that have these labels."""
    return sum(
        sample.value
        for metric in metrics
        for sample in metric.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def mean(metrics: Iterable[Metric], name: str) -> float:
    """Return the mean of a histogram over all its labels, 0 when nothing was observed."""
    count = total(metrics, f"{name}_count")
    return total(metrics, f"{name}_sum") / count if count else 0.0


@dataclass(frozen=True, slots=True)
class MeasuredGateway:
    """A running gateway and the key of one of its clients."""

    port: int
    key: str

    @property
    def url(self) -> URL:
        """The URL of its API."""
        return URL(f"http://127.0.0.1:{self.port}/")

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request with JSON."""
        return {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}

    def request(self, method: str, path: str, body: object = None, key: str | None = None) -> bytes:
        """Return the octets of a request, its body as JSON or as it is, perhaps with a key."""
        content = body if isinstance(body, bytes) else orjson.dumps(body) if body else b""
        named = {"Idempotency-Key": key} if key else {}
        url = self.url.join(URL(path))
        return http.encode_request(method, url, {**self.headers, **named}, content)


@dataclass(frozen=True, slots=True)
class Vhost:
    """A vhost with the queues of the services, and our connection to it."""

    bench: Bench
    url: str
    broker: Broker

    @classmethod
    @asynccontextmanager
    async def opened(cls, bench: Bench, owners: Sequence[Owner] = MEASURED) -> AsyncIterator[Self]:
        """Create a vhost with the queues of `owners`, connect, and remove it at the end."""
        name = f"bench-{secrets.token_hex(4)}"
        await asyncio.to_thread(bench.address.management.add_vhost, name)
        url = bench.address.amqp_url(name)
        await topology.declare(url, owners)
        async with Broker.connect(url, NAME) as broker:
            yield cls(bench, url, broker)
        await asyncio.to_thread(bench.address.management.remove_vhost, name)

    @asynccontextmanager
    async def running(
        self, name: str, data: Path | None = None, **settings: str
    ) -> AsyncIterator[MeasuredService]:
        """Run a service until the block is left, by default on no data. Raises BenchError."""
        [port] = ports.unused(1)
        environment = {
            "AMQP_URL": self.url,
            "DATA_DIR": str(data or self.bench.directory / f"data-{port}"),
            "GATEWAY_PORT" if name == "gateway" else "HEALTH_PORT": str(port),
            **self.bench.secrets,
            **settings,
        }
        module, profile = f"services.{name}", self.bench.directory / f"{name}.profile"
        profiled = self.bench.profiled == name
        command = profiling(module, profile) if profiled else [sys.executable, "-m", module]
        own = f"{name}-{port}"  # there may be two of a service
        async with self.bench.running(own, command, environment) as process:
            await self.bench.listening(own, process, port)
            yield MeasuredService(process, port)
        if profiled:
            print(hotspots(profile), flush=True)

    def sender(
        self, smtp_port: int, connections: int = 16, data: Path | None = None, **settings: str
    ) -> AbstractAsyncContextManager[MeasuredService]:
        """Run a sender to an SMTP server on 127.0.0.1, with so many connections a class."""
        return self.running(
            "sender",
            data,
            SENDER_SMTP_HOST="127.0.0.1",
            SENDER_SMTP_PORT=str(smtp_port),
            SENDER_SMTP_TLS="none",
            SENDER_FROM=mail.SENDER,
            SENDER_CONNECTIONS_TRANSACTIONAL=str(connections),
            **settings,
        )

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[MeasuredGateway]:
        """Run a gateway with one client. Raises BenchError."""
        token = self.bench.secrets["GATEWAY_ADMIN_TOKEN"]
        headers = {"Authorization": f"Bearer {token}"}
        async with self.running("gateway") as service:
            url = f"http://127.0.0.1:{service.port}"
            try:
                async with (
                    aiohttp.ClientSession(url, headers=headers) as session,
                    session.post("/v1/clients", json={"id": NAME}, raise_for_status=True) as made,
                ):
                    key = str((await made.json())["api_key"])
            except aiohttp.ClientError as error:
                raise BenchError(f"the gateway registers no client: {error}") from error
            yield MeasuredGateway(service.port, key)

    async def publish(self, messages: Iterable[Contract]) -> None:
        """Publish messages, some of them at once."""
        waiting = iter(messages)
        while some := list(islice(waiting, _MAX_PUBLISHING)):
            await asyncio.gather(*map(self.broker.publish, some))

    async def fill(
        self,
        ids: Sequence[str],
        category: Category = Category.TRANSACTIONAL,
        clients: Sequence[str | None] = NO_CLIENT,
        length: int = 1,
    ) -> None:
        """Publish a mail for each id, of the clients in turn; `length` as in the plan."""
        longer = mail.repeated(length)
        await self.publish(
            mail.command(each, mail.recipient(number), longer).model_copy(
                update={"category": category, "client": clients[number % len(clients)]}
            )
            for number, each in enumerate(ids)
        )

    async def waiting(self, *queues: str) -> int:
        """Return how many messages wait in some queues."""
        count = 0
        for queue in queues:
            async with self.broker.browsing(queue) as browsed:
                count += browsed.waiting
        return count

    async def waiting_mails(self, category: Category) -> int:
        """Return how many mails of a class wait, in all of its queues."""
        return await self.waiting(sending_queue(category), *shard_queues(category))


@asynccontextmanager
async def database(bench: Bench, name: str) -> AsyncIterator[dict[str, str]]:
    """Make an empty database; the value is the setting that names it. Raises BenchError."""
    if name != POSTGRESQL:
        yield {}
        return
    programs = PostgresPrograms.find()
    if programs is None:
        raise BenchError("no PostgreSQL: install postgresql (Debian, Ubuntu: apt-get install)")
    account = PostgresAccount(ports.unused(1)[0])
    server = PostgresServer(bench.directory / f"postgres-{account.port}", account, programs)
    try:
        await asyncio.to_thread(server.start)
        yield {"DATABASE_URL": account.url()}
    except PostgresError as error:
        raise BenchError(str(error)) from error
    finally:
        server.discard()
