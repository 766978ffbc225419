"""Fixtures of the ledger's stores."""

import pytest

from services.ledger.service import MIGRATIONS
from services.ledger.store.recording import MailStore
from shared.storage.database import Database
from tests.clock import Clock
from tests.databases import Opener
from tests.sender.senders import HASHER


@pytest.fixture
async def database(open_database: Opener) -> Database:
    """Open the database of one test."""
    return await open_database("ledger", MIGRATIONS)


@pytest.fixture
def store(database: Database, clock: Clock) -> MailStore:
    """Return the store of one test."""
    return MailStore(database, 0, HASHER, clock)


@pytest.fixture
async def replica(open_database: Opener, clock: Clock) -> MailStore:
    """Return another replica of the store, as another process has it."""
    return MailStore(await open_database("ledger", MIGRATIONS), 500_000, HASHER, clock)
