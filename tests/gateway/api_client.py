"""A client of a running gateway, its settings and its queues."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import aiohttp
import orjson

from services.gateway import service
from services.gateway.config import GatewaySettings
from shared import rabbitmq, topology
from shared.contracts import Category
from shared.topology import Binding, Queue

ADMIN_TOKEN = "an administrator's token of some length"
KEY_SECRET = "5d1f" * 16
LINK_KEY = "7c1d" * 16
QUEUES = (
    topology.sending_queue(Category.TRANSACTIONAL),
    topology.OTP_COMMANDS,
    topology.OTP_QUESTIONS,
    topology.EVIDENCE,
    topology.CLASSIFIER_QUESTIONS,
    topology.LEDGER_QUESTIONS,
    topology.SENDER_QUESTIONS,
    topology.SCHEDULER_QUESTIONS,
    topology.SCHEDULER_MAIL,
    topology.GATEWAY_QUESTIONS,
    topology.WEBHOOK_QUESTIONS,
)
MAIL = {"to": "ann@example.com", "subject": "Hello", "text": "Hello, Ann."}


@dataclass(frozen=True)
class ApiResponse:
    """A response, read whole."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 -- whatever the server sent
        """The decoded body."""
        return orjson.loads(self.content)


@dataclass(frozen=True)
class ApiClient:
    """A client of a running gateway, with the key that it sends."""

    http: aiohttp.ClientSession
    url: str
    key: str = ""

    @property
    def port(self) -> int:
        """The port of the gateway."""
        return int(self.url.rpartition(":")[2])

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        data: Any = None,  # noqa: ANN401 -- whatever aiohttp can send
    ) -> ApiResponse:
        """Send one request: `body` as JSON, or `data` as it is."""
        given = {"Authorization": f"Bearer {self.key}"} | dict(headers or {})
        if body is not None:
            data, given = orjson.dumps(body), {"Content-Type": "application/json"} | given
        async with self.http.request(method, self.url + path, data=data, headers=given) as answer:
            return ApiResponse(answer.status, answer.headers, await answer.read())

    async def post(
        self, path: str, body: object, headers: Mapping[str, str] | None = None
    ) -> ApiResponse:
        """Send a POST with a JSON body."""
        return await self.call("POST", path, body, headers)

    def with_key(self, key: str) -> Self:
        """Return a client with another key."""
        return replace(self, key=key)

    @property
    def admin(self) -> Self:
        """A client with the administrator's token."""
        return self.with_key(ADMIN_TOKEN)

    async def registered(self, client: str, **settings: object) -> Self:
        """Register a client and return it."""
        answer = await self.admin.post("/v1/clients", {"id": client, **settings})
        assert answer.status == 201, answer.content
        return self.with_key(answer.json["api_key"])


def settings(amqp_url: str, data_dir: Path, **more: object) -> GatewaySettings:
    """Return settings of a gateway on a free port."""
    values: dict[str, object] = {
        "amqp_url": amqp_url,
        "data_dir": data_dir,
        "gateway_port": 0,
        "gateway_admin_token": ADMIN_TOKEN,
        "gateway_key_secret": KEY_SECRET,
        "link_key": LINK_KEY,
    }
    return GatewaySettings.model_validate(values | more)


async def declare(url: str, names: Sequence[str] = QUEUES, max_length: int = 1000) -> None:
    """Declare queues that the gateway publishes to; the one of a class takes all its shards."""
    queues = [
        replace(
            queue,
            arguments={**queue.arguments, "x-max-length": max_length},
            bindings=(
                *queue.bindings,
                *(
                    Binding(topology.SHARDED_MAILS, key)
                    for key in topology.SHARD_KEYS
                    if key.startswith(tuple(f"{each.key}." for each in queue.bindings))
                ),
            ),
        )
        for queue in topology.queues(tuple(topology.Owner), scale=0.01)
        if queue.name in names
    ]
    # They must exist, and get nothing: see `Publishing.queue`.
    shards = [
        Queue(shard, None, (), {})
        for category in Category
        if topology.sending_queue(category) in names
        for shard in topology.shard_queues(category)
    ]
    await rabbitmq.declare(url, topology.EXCHANGES, [*queues, *shards])


@asynccontextmanager
async def running(
    settings: GatewaySettings, http: aiohttp.ClientSession
) -> AsyncIterator[ApiClient]:
    """Run a gateway, and yield a registered client."""
    async with service.serving(settings, asyncio.Event()) as port:
        yield await ApiClient(http, f"http://127.0.0.1:{port}").registered("shop")
