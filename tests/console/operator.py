"""An operator at a running console, and the queues that it needs."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from services.console import service
from services.console.config import ConsoleSettings
from shared import rabbitmq, topology

TOKEN = "an operator's token of some length"
SESSION_KEY = "3a7e" * 16
QUESTIONS = (
    *(topology.LEDGER_QUESTIONS, topology.CLASSIFIER_QUESTIONS, topology.SCHEDULER_QUESTIONS),
    *(topology.WEBHOOK_QUESTIONS, topology.GATEWAY_QUESTIONS, topology.SENDER_QUESTIONS),
)
DELAYS = ("delay.5s", "delay.5s.codes")


@dataclass(frozen=True)
class ShownPage:
    """A page as it came."""

    status: int
    url: str
    headers: Mapping[str, str]
    text: str

    @property
    def form_token(self) -> str:
        """The token of its forms."""
        found = re.search(r'name="form_token" value="(\w+)"', self.text)
        assert found, self.text
        return found[1]

    @property
    def words(self) -> str:
        """Its text without the elements, with single spaces."""
        return " ".join(re.sub(r"<[^>]+>", " ", self.text).split())


@dataclass(frozen=True)
class Operator:
    """A browser without JavaScript."""

    http: aiohttp.ClientSession
    url: str

    async def get(self, path: str, **headers: str) -> ShownPage:
        """Load a page; redirects are followed."""
        async with self.http.get(self.url + path, headers=headers) as answer:
            return ShownPage(answer.status, str(answer.url), answer.headers, await answer.text())

    async def post(
        self, path: str, fields: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> ShownPage:
        """Send a form as it is; redirects are followed."""
        async with self.http.post(self.url + path, data=fields, headers=headers) as answer:
            return ShownPage(answer.status, str(answer.url), answer.headers, await answer.text())

    async def log_in(self, token: str = TOKEN, target: str = "/") -> ShownPage:
        """Log in."""
        return await self.post("/login", {"token": token, "next": target})

    async def act(self, page: str, path: str, **fields: str) -> ShownPage:
        """Send a form of a page, with that page's token."""
        token = (await self.get(page)).form_token
        return await self.post(path, {"form_token": token, **fields})


def settings(amqp_url: str, data_dir: Path, **more: object) -> ConsoleSettings:
    """Return settings of a console on a free port."""
    values: dict[str, object] = {
        "amqp_url": amqp_url,
        "data_dir": data_dir,
        "console_port": 0,
        "console_token": TOKEN,
        "console_session_key": SESSION_KEY,
        "console_answer_seconds": 10.0,  # the longest: a busy machine is slow
    }
    return ConsoleSettings.model_validate(values | more)


async def declare(url: str, *names: str) -> None:
    """Declare the queues of questions and those that are named, with short delays."""
    wanted = {*QUESTIONS, *names}
    queues = [each for each in topology.queues(scale=0.001) if each.name in wanted]
    await rabbitmq.declare(url, topology.EXCHANGES, queues)


@asynccontextmanager
async def visiting(given: ConsoleSettings) -> AsyncIterator[Operator]:
    """Run a console; yield an operator who is not logged in."""
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of an IP address
    async with (
        service.serving(given) as port,
        aiohttp.ClientSession(cookie_jar=jar, timeout=aiohttp.ClientTimeout(60)) as http,
    ):
        yield Operator(http, f"http://127.0.0.1:{port}")
