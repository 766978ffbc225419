"""kill -9 of a gateway at each step of a request, while its clients try again and again."""

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
import pytest

from ops import ports
from ops.credentials import SecretFile
from ops.stack.settings import service_environment
from tests.journeys.stack import Stack
from tests.journeys.user import Answer, User
from tests.processes import started
from tests.proxy import Proxy
from tests.waiting import until

pytestmark = [pytest.mark.journey, pytest.mark.timeout(180)]

CLIENTS = 32  # at once
MAILS = 3  # of each client
# The methods of AMQP 0-9-1 as a frame has them: class and number.
PUBLISH, CONFIRM = b"\x00\x3c\x00\x28", b"\x00\x3c\x00\x50"
REQUEST, ANSWER = b"POST /v1/messages", b"HTTP/1.1 202"


@dataclass(frozen=True)
class KillStep:
    """The bytes at which a gateway is killed: where and how often they are seen before.

    The last ones pass, or they are dropped. A confirm may be of many publishes.
    """

    where: str
    to_target: bool
    marker: bytes
    passes: bool
    before: int


STEPS = {
    "the request has come": KillStep(
        "http", to_target=True, marker=REQUEST, passes=True, before=40
    ),
    "before the publish": KillStep("amqp", to_target=True, marker=PUBLISH, passes=False, before=40),
    "after the publish": KillStep("amqp", to_target=True, marker=PUBLISH, passes=True, before=40),
    "before the confirm": KillStep("amqp", to_target=False, marker=CONFIRM, passes=False, before=2),
    "after the confirm": KillStep("amqp", to_target=False, marker=CONFIRM, passes=True, before=2),
    "the answer is lost": KillStep("http", to_target=False, marker=ANSWER, passes=False, before=40),
}


@dataclass
class Killer:
    """Kills a process when bytes of a step have been seen often enough."""

    step: KillStep
    pid: int
    seen: int = field(default=0, init=False)

    def watch(self, data: bytes, to_target: bool) -> None:  # noqa: FBT001 -- a Watch
        """Count the bytes of the step, and kill."""
        if to_target != self.step.to_target or self.step.marker not in data:
            return
        self.seen += data.count(self.step.marker)
        if self.seen <= self.step.before:
            return
        if self.step.passes:  # they are written right after this
            asyncio.get_running_loop().call_soon(self._kill)
            return
        self._kill()
        raise ConnectionAbortedError

    def _kill(self) -> None:
        if self.seen:
            self.seen = -(10**9)  # once
            os.kill(self.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Replica:
    """A further gateway of a stack, whose connections to RabbitMQ and to clients are watched."""

    stack: Stack
    port: int
    amqp: Proxy
    http: Proxy
    settings: Mapping[str, str]

    @classmethod
    @asynccontextmanager
    async def beside(cls, stack: Stack, **settings: str) -> AsyncIterator["Replica"]:
        """Open the two proxies; no gateway, which has further settings, is started yet."""
        (port,) = ports.unused(1)
        broker = urlsplit(stack.record["amqp_url"])
        async with Proxy.to(broker.port or 0) as amqp, Proxy.to(port) as http:
            yield cls(stack, port, amqp, http, settings)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a gateway with the data and secrets of the stack."""
        secrets = SecretFile(self.stack.run_dir / "secrets.json", {})
        given = {"GATEWAY_PORT": self.port}
        broker = urlsplit(self.stack.record["amqp_url"])
        host = broker.netloc.replace(f":{broker.port}", f":{self.amqp.port}")
        return {
            **service_environment(
                "gateway", self.stack.environ, given, self.stack.run_dir, secrets.get
            ),
            "AMQP_URL": broker._replace(netloc=host).geturl(),
            "GATEWAY_PORT": str(self.port),
            **self.settings,
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Process]:
        """Run a gateway; return when it is ready."""
        async with started(
            "-m", "services.gateway", env=self.environ, stdout=DEVNULL, stderr=DEVNULL
        ) as process:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{self.port}") as session:

                async def ready() -> bool:
                    try:
                        async with session.get("/readyz") as response:
                            return response.status == 200
                    except aiohttp.ClientError:
                        return False

                await until(ready, within=60)
            yield process

    @asynccontextmanager
    async def user(self) -> AsyncIterator[User]:
        """Open a user of the gateway behind its proxy."""
        record = {**self.stack.record, "gateway_url": f"http://127.0.0.1:{self.http.port}"}
        async with User.of(record) as user:
            yield user


@pytest.fixture
async def replica(stack: Stack) -> AsyncIterator[Replica]:
    """Return a further gateway of the stack, which is not started yet."""
    async with Replica.beside(stack) as beside:
        yield beside


async def insisting(request: Callable[[], Awaitable[Answer]]) -> str:
    """Send a request until it is accepted; return the id of its mail."""
    ids: list[str] = []

    async def accepted() -> bool:
        try:
            answer = await request()
        except aiohttp.ClientError:
            return False
        assert answer.status in {202, 409, 503}, answer
        ids.extend([answer.body["id"]] if answer.status == 202 else [])
        return answer.status == 202

    await until(accepted, within=60)
    return ids[0]


async def send_all(user: User, addresses: list[str]) -> list[str]:
    """Send a mail to each address, one after the other; return their ids."""

    async def send(address: str) -> Answer:
        body = {"to": address, "subject": "Hello", "text": "It works."}
        key = {"Idempotency-Key": address}
        return await user.ask("POST", "/v1/messages", body, headers=key)

    return [await insisting(lambda to=address: send(to)) for address in addresses]  # type: ignore[misc]


async def wait_until_delivered(user: User, domain: str, count: int) -> int:
    """Wait until so many mails to a domain are delivered; return how many were accepted."""
    counts: dict[str, int] = {}

    async def delivered() -> bool:
        answer = await user.ask("GET", f"/v1/stats?domain={domain}")
        counts.update(answer.body["counts"])
        return counts["delivered"] >= count and not counts["waiting"]

    await until(delivered, within=60)
    return counts["accepted"]


@pytest.mark.parametrize("name", STEPS)
async def test_each_request_is_one_mail_wherever_the_gateway_dies(
    replica: Replica, user: User, name: str
) -> None:
    """After kill -9 at any step, each repeated request has one id and one mail.

    No command has another id either: the ledger has a copy of each, also of one that was published
    by a gateway that died before it could answer.
    """
    step, domain = STEPS[name], f"{name.replace(' ', '-')}.example"
    clients = [[f"c{c}.m{m}@{domain}" for m in range(MAILS)] for c in range(CLIENTS)]
    async with AsyncExitStack() as opened, replica.user() as caller:
        first = await opened.enter_async_context(replica.running())
        proxy = replica.amqp if step.where == "amqp" else replica.http
        proxy.watch = Killer(step, first.pid).watch
        sending = asyncio.gather(*(send_all(caller, each) for each in clients))
        async with asyncio.timeout(60):
            code = await first.wait()
        await opened.enter_async_context(replica.running())
        ids = [each for some in await sending for each in some]
        # A copy of an earlier mail would be sent before this one.
        await send_all(caller, [f"last@{domain}"])
    await user.wait_for_mails(f"last@{domain}")

    accepted = await wait_until_delivered(user, domain, CLIENTS * MAILS + 1)
    arrived = [await user.wait_for_mails(to) for addresses in clients for to in addresses]
    assert accepted == CLIENTS * MAILS + 1
    assert code == -signal.SIGKILL
    assert len(set(ids)) == CLIENTS * MAILS
    assert {len(mails) for mails in arrived} == {1}
    assert all(
        id_ in mail["headers"]["Message-ID"] for id_, [mail] in zip(ids, arrived, strict=True)
    )


async def test_fifty_equal_requests_at_two_gateways_are_one_mail(
    replica: Replica, user: User
) -> None:
    """Fifty requests of one key, at once and at two gateways, have one id and make one mail."""
    mail = {"to": "fifty@equal.example", "subject": "s", "text": "t"}
    key = {"Idempotency-Key": "fifty"}
    async with replica.running(), replica.user() as other:
        answers = await asyncio.gather(
            *(
                each.ask("POST", "/v1/messages", mail, headers=key)
                for _ in range(25)
                for each in (user, other)
            )
        )
        last = await user.send("last@equal.example")
    await user.wait_for_mails("last@equal.example")

    assert await wait_until_delivered(user, "equal.example", 2) == 2
    assert {answer.status for answer in (*answers, last)} == {202}
    assert len({answer.body["id"] for answer in answers}) == 1
    assert len(await user.wait_for_mails("fifty@equal.example")) == 1
