"""One store of codes, and another replica of it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from services.otp.service import MIGRATIONS
from services.otp.store import ChallengeStore
from shared.database import Database
from tests.clock import Clock
from tests.otp.asking import FREE, RULES, Asking


@pytest.fixture
def clock() -> Clock:
    """Give the time of one test."""
    return Clock()


@pytest.fixture
async def database(database_url: str | None, tmp_path: Path) -> AsyncIterator[Database]:
    """Open the database of one test."""
    async with Database.open("otp", database_url, tmp_path, MIGRATIONS) as opened:
        yield opened


@pytest.fixture
def asking(database: Database, clock: Clock) -> Asking:
    """Give the store of one test."""
    return Asking(ChallengeStore(database, RULES, clock))


@pytest.fixture
def free(database: Database, clock: Clock) -> Asking:
    """Give the same store without a cooldown."""
    return Asking(ChallengeStore(database, FREE, clock))


@pytest.fixture
async def replica(
    database: Database, database_url: str | None, tmp_path: Path, clock: Clock
) -> AsyncIterator[Asking]:
    """Give the same store as another process has it, without a cooldown."""
    del database  # opened first
    async with Database.open("otp", database_url, tmp_path, MIGRATIONS) as opened:
        yield Asking(ChallengeStore(opened, FREE, clock))


@pytest.fixture
async def replicas(
    database: Database, database_url: str | None, tmp_path: Path, clock: Clock
) -> AsyncIterator[Sequence[Asking]]:
    """Give three stores without a cooldown, each as a process of its own has it."""
    del database  # opened first
    async with AsyncExitStack() as opened:
        databases = [
            await opened.enter_async_context(
                Database.open("otp", database_url, tmp_path, MIGRATIONS)
            )
            for _ in range(3)
        ]
        yield [Asking(ChallengeStore(each, FREE, clock)) for each in databases]
