"""A running scheduler with its broker and database."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest

from services.gateway import service as gateway
from services.ledger import service as ledger
from services.ledger.config import LedgerSettings
from services.scheduler import service
from services.scheduler.config import SchedulerSettings
from services.scheduler.content import MailRequest
from services.scheduler.rendering import Rendered, RenderingError
from shared import topology
from shared.broker import Broker
from shared.contracts import Answer, Contract, Question, SendEmail, decode
from shared.rabbitmq import declare
from shared.template import VariableMistake
from tests.gateway.api_client import ApiClient
from tests.gateway.api_client import settings as gateway_settings
from tests.sender.senders import SUPPRESSION_KEY
from tests.serving import serving
from tests.tap import Tap, tapped
from tests.world import attached

LINK_KEY = "7c1d" * 16
PUBLIC_URL = "https://mail.example"
ANSWER_SECONDS = 30.0

A = TypeVar("A", bound=Answer)

running = partial(serving, service.run)


@dataclass(frozen=True)
class Scheduled:
    """A scheduler's broker, and a tap of what it commands."""

    url: str
    broker: Broker
    commands: Tap
    settings: SchedulerSettings
    seen: list[Contract] = field(default_factory=list)

    async def ask(self, question: Question, kind: type[A]) -> A:
        """Return the answer to a question."""
        answer = await self.broker.ask(question, ANSWER_SECONDS)
        assert isinstance(answer, kind)
        return answer

    async def mail(self) -> SendEmail:
        """Return the next mail that the scheduler has published."""
        while True:
            message = await self.commands.next()
            command = decode(message.type or "", message.body)
            if isinstance(command, SendEmail):
                return command


def settings(amqp_url: str, data_dir: Path, **more: Any) -> SchedulerSettings:  # noqa: ANN401 -- as the settings have it
    """Return settings of a scheduler without spread."""
    values = {
        "amqp_url": amqp_url,
        "data_dir": data_dir,
        "scheduler_public_url": PUBLIC_URL,
        "link_key": LINK_KEY,
        "health_port": 0,
        "scheduler_spread_seconds": 0.0,
    }
    return SchedulerSettings.model_validate(values | more)


@asynccontextmanager
async def scheduled(vhost: str, data_dir: Path, **more: Any) -> AsyncIterator[Scheduled]:  # noqa: ANN401 -- as the settings have it
    """Declare the queues, and tap the commands; no scheduler runs yet."""
    await declare(vhost, topology.EXCHANGES, topology.queues(scale=0.01))
    async with (
        tapped(vhost, topology.COMMANDS) as commands,
        Broker.connect(vhost, "gateway") as broker,
    ):
        yield Scheduled(vhost, broker, commands, settings(vhost, data_dir, **more))


@pytest.fixture
async def scheduler(vhost: str, tmp_path: Path) -> AsyncIterator[Scheduled]:
    """Run a scheduler on SQLite."""
    async with scheduled(vhost, tmp_path) as world, running(world.settings):
        yield world


async def rendered_here(requests: Sequence[MailRequest]) -> Sequence[Rendered]:
    """Make mails without a process of their own."""
    made = list[Rendered]()
    for each in requests:
        try:
            made.append(each.make())
        except VariableMistake as error:
            made.append(error)
        except ValueError as error:
            made.append(RenderingError(type(error).__name__))
    return made


@pytest.fixture
async def with_ledger(vhost: str, tmp_path: Path) -> AsyncIterator[Scheduled]:
    """Run a scheduler, then a ledger: Alembic makes the tables of one service at a time."""
    books = LedgerSettings.model_validate(
        {"amqp_url": vhost, "data_dir": tmp_path, "health_port": 0}
        | {"suppression_key": SUPPRESSION_KEY}
    )
    async with scheduled(vhost, tmp_path) as world, running(world.settings):
        await attached(vhost, topology.SCHEDULER_QUESTIONS)
        async with serving(ledger.run, books):
            await attached(vhost, topology.LEDGER_QUESTIONS)
            yield world


@pytest.fixture
async def api(with_ledger: Scheduled, tmp_path: Path) -> AsyncIterator[ApiClient]:
    """Run a gateway beside them; yield a registered client."""
    async with (
        gateway.serving(gateway_settings(with_ledger.url, tmp_path), asyncio.Event()) as port,
        aiohttp.ClientSession() as http,
    ):
        yield await ApiClient(http, f"http://127.0.0.1:{port}").registered("shop")


def soon() -> datetime:
    """Return a time a moment ahead."""
    return datetime.now(UTC) + timedelta(seconds=1)
