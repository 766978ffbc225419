"""A simulator and claims for each test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from ops.simulator.simulator import Simulator
from services.sender.service import MIGRATIONS
from services.sender.store import ClaimStore
from shared.storage.database import Database
from tests.sender.replicas import Replicas, replicas


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Open a simulator on free ports that lets anybody log in."""
    async with Simulator() as opened:
        yield opened


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """Open the database of one test."""
    async with Database.open("sender", None, tmp_path, MIGRATIONS) as opened:
        yield opened


@pytest.fixture
def claims(database: Database) -> ClaimStore:
    """Give the claims of one sender."""
    return ClaimStore(database)


@pytest.fixture
def of_the_dead(database: Database) -> ClaimStore:
    """Give the claims of a sender that dies at once: it holds none for any time."""
    return ClaimStore(database, lease=0)


@pytest.fixture
async def world(vhost: str, tmp_path: Path) -> AsyncIterator[Replicas]:
    """Open what the senders of one test share."""
    async with replicas(vhost, tmp_path) as opened:
        yield opened


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests on the loop that the service runs on: transports differ in how they fail."""
    return {"uvloop": uvloop.new_event_loop}
