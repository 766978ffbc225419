"""Stores of codes, and replicas of them."""

from collections.abc import Sequence

import pytest

from services.otp.handlers import CodeHandlers
from services.otp.service import MIGRATIONS
from services.otp.store import ChallengeStore
from shared.storage.database import Database
from tests.clock import Clock
from tests.databases import Opener
from tests.otp import handling
from tests.otp.asking import FREE, POLICY, Asking
from tests.otp.handling import CountingCodeGenerator


@pytest.fixture
async def database(open_database: Opener) -> Database:
    """Open the database of one test."""
    return await open_database("otp", MIGRATIONS)


@pytest.fixture
def asking(database: Database, clock: Clock) -> Asking:
    """Return the store of one test."""
    return Asking(ChallengeStore(database, POLICY, clock))


@pytest.fixture
def free(database: Database, clock: Clock) -> Asking:
    """Return the same store without a cooldown."""
    return Asking(ChallengeStore(database, FREE, clock))


@pytest.fixture
async def replica(open_database: Opener, clock: Clock) -> Asking:
    """Return another replica of the store, without a cooldown."""
    return Asking(ChallengeStore(await open_database("otp", MIGRATIONS), FREE, clock))


@pytest.fixture
async def replicas(open_database: Opener, clock: Clock) -> Sequence[Asking]:
    """Return three replicas of the store, without a cooldown."""
    databases = [await open_database("otp", MIGRATIONS) for _ in range(3)]
    return [Asking(ChallengeStore(each, FREE, clock)) for each in databases]


@pytest.fixture
def generator() -> CountingCodeGenerator:
    """Return a generator that counts comparisons."""
    return CountingCodeGenerator([bytes(32)])


@pytest.fixture
def codes(database: Database, generator: CountingCodeGenerator) -> CodeHandlers:
    """Return handlers without a cooldown."""
    return handling.handlers(ChallengeStore(database, FREE), generator)
