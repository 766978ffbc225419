"""How fast the gateway takes in messages, beside its `/ping`: HTTP and nothing else."""

import secrets
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import aiohttp
import orjson

from benchmarks import mail, outcomes
from benchmarks.bench import Bench
from benchmarks.errors import BenchError
from benchmarks.load import Task
from benchmarks.report import Series
from ops import ports
from shared.broker import Broker
from shared.contracts import Category
from shared.topology import sending_queue

NAME = "bench"  # by which the broker knows us
SERVICE = "services.gateway"
GATEWAY = (sys.executable, "-m", SERVICE)
ACCEPTED = "202"
OK = "200"
_WARM_UP = 10  # requests a connection that are not measured
_LOAD_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How many requests over how many HTTP connections, how often."""

    count: int
    connections: int
    repetitions: int


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway and the key of one of its clients."""

    port: int
    key: str

    @property
    def headers(self) -> Mapping[str, str]:
        """What a request with JSON needs."""
        return {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}

    def post(self, plan: Plan) -> Task:
        """Give the load of messages."""
        body = {
            "to": mail.recipient(0),
            "subject": mail.SUBJECT,
            "text": mail.TEXT,
            "html": mail.HTML,
        }
        return replace(
            self.ping(plan),
            method="POST",
            path="/v1/messages",
            headers=self.headers,
            body=orjson.dumps(body).decode(),
        )

    def ping(self, plan: Plan) -> Task:
        """Give the load of nothing."""
        return Task(self.port, "GET", "/ping", plan.count, plan.connections)


async def measure(bench: Bench, plan: Plan, command: Sequence[str] = GATEWAY) -> Sequence[Series]:
    """Measure messages and pings in turns, so that what disturbs the machine meets both.

    Raises BenchError, also when an accepted message is not on its queue.
    """
    async with bench.vhost() as amqp_url, Broker.connect(amqp_url, NAME) as broker:
        async with running(bench, amqp_url, command) as gateway:
            warm_up = replace(plan, count=_WARM_UP * plan.connections)
            await _turns(bench, gateway, replace(warm_up, repetitions=1))
            turns = await _turns(bench, gateway, plan)
        accepted = warm_up.count + plan.count * plan.repetitions
        kept = await outcomes.waiting(broker, sending_queue(Category.TRANSACTIONAL))
    if kept != accepted:
        raise BenchError(f"{accepted} messages were accepted, {kept} are on the queue")
    return turns


async def _turns(bench: Bench, gateway: Gateway, plan: Plan) -> Sequence[Series]:
    posts: list[Mapping[str, Any]] = []
    pings: list[Mapping[str, Any]] = []
    for _ in range(plan.repetitions):
        posts.append(await loaded(bench, gateway.post(plan), ACCEPTED))
        pings.append(await loaded(bench, gateway.ping(plan), OK))
    return [series("POST /v1/messages", posts), series("GET /ping", pings)]


async def loaded(bench: Bench, task: Task, expected: str = OK) -> Mapping[str, Any]:
    """Let a process make a load. Raises BenchError when an answer was not as expected."""
    seen: Mapping[str, Any] = await bench.ask("benchmarks.load", asdict(task), _LOAD_SECONDS)
    if seen["statuses"] != {expected: task.count}:
        raise BenchError(f"{task.method} {task.path} was answered by {seen['statuses']}")
    return seen


def series(name: str, seen: Sequence[Mapping[str, Any]]) -> Series:
    """Give the rates and latencies of some loads."""
    return Series(
        name,
        rates=[len(each["latencies"]) / each["seconds"] for each in seen],
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
    """Make a client and give its key. Raises BenchError."""
    headers = {"Authorization": f"Bearer {admin_token}"}
    try:
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session,
            session.post("/v1/clients", json={"id": NAME}, raise_for_status=True) as response,
        ):
            return str((await response.json())["api_key"])
    except aiohttp.ClientError as error:
        raise BenchError(f"the gateway registers no client: {error}") from error
