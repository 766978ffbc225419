"""A simulator and claims for each test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from ops.simulator.simulator import Simulator
from services.sender.handlers import StopHandlers
from services.sender.service import MIGRATIONS
from services.sender.stops import StopChanges, StopStore
from services.sender.store import ClaimStore
from shared.storage.database import Database
from tests.clock import Clock, Watch
from tests.databases import Opener
from tests.sender.replicas import Replicas, replicas
from tests.sender.senders import HASHER


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
    """Return the claims of one sender."""
    return ClaimStore(database, HASHER)


@pytest.fixture
def of_the_dead(database: Database) -> ClaimStore:
    """Return the claims of a sender that dies at once: their lease is 0."""
    return ClaimStore(database, HASHER, lease=0)


@pytest.fixture
async def each_database(open_database: Opener) -> Database:
    """Open a SQLite file, then a PostgreSQL schema."""
    return await open_database("sender", MIGRATIONS)


@pytest.fixture
def store(each_database: Database, clock: Clock, watch: Watch) -> ClaimStore:
    """Return the claims of one sender in each database, whose own clock stands still."""
    return ClaimStore(each_database, HASHER, clock=clock, steady=watch)


@pytest.fixture
def watch() -> Watch:
    """Return the steady clock of a sender."""
    return Watch()


@pytest.fixture
async def replica(open_database: Opener, clock: Clock) -> ClaimStore:
    """Return the same claims as another sender process sees them."""
    return ClaimStore(await open_database("sender", MIGRATIONS), HASHER, clock=clock)


@pytest.fixture
def stops(each_database: Database, clock: Clock, store: ClaimStore) -> StopStore:
    """Return what stops the mails of one sender in each database."""
    return StopStore(each_database, HASHER, store.changes, clock)


@pytest.fixture
async def other_stops(open_database: Opener, clock: Clock) -> StopStore:
    """Return the same as another sender process sees it."""
    return StopStore(await open_database("sender", MIGRATIONS), HASHER, StopChanges(), clock)


@pytest.fixture
def handlers(stops: StopStore, store: ClaimStore) -> StopHandlers:
    """Return the handlers of what stops mails."""
    return StopHandlers(stops, store, HASHER)


@pytest.fixture
async def world(vhost: str, tmp_path: Path) -> AsyncIterator[Replicas]:
    """Open the broker, database and relay of the senders of one test."""
    async with replicas(vhost, tmp_path) as opened:
        yield opened


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests on the loop that the service runs on: transports differ in how they fail."""
    return {"uvloop": uvloop.new_event_loop}
