"""One store of codes, and another replica of it."""

from collections.abc import Sequence

import pytest

from services.otp.handlers import OneTimeCodes
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
    """Give the store of one test."""
    return Asking(ChallengeStore(database, POLICY, clock))


@pytest.fixture
def free(database: Database, clock: Clock) -> Asking:
    """Give the same store without a cooldown."""
    return Asking(ChallengeStore(database, FREE, clock))


@pytest.fixture
async def replica(open_database: Opener, clock: Clock) -> Asking:
    """Give the same store as another process has it, without a cooldown."""
    return Asking(ChallengeStore(await open_database("otp", MIGRATIONS), FREE, clock))


@pytest.fixture
async def replicas(open_database: Opener, clock: Clock) -> Sequence[Asking]:
    """Give three stores without a cooldown, each as a process of its own has it."""
    databases = [await open_database("otp", MIGRATIONS) for _ in range(3)]
    return [Asking(ChallengeStore(each, FREE, clock)) for each in databases]


@pytest.fixture
def generator() -> CountingCodeGenerator:
    """Give a codebook that counts."""
    return CountingCodeGenerator([bytes(32)])


@pytest.fixture
def codes(database: Database, generator: CountingCodeGenerator) -> OneTimeCodes:
    """Give handlers without a cooldown."""
    return handling.handlers(ChallengeStore(database, FREE), generator)
