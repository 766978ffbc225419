"""Fixtures of the gateway's stores."""

import pytest

from services.gateway.clients.tables import MIGRATIONS
from shared.storage.database import Database
from tests.databases import Opener


@pytest.fixture
async def database(open_database: Opener) -> Database:
    """Open a database for one test."""
    return await open_database("gateway", MIGRATIONS)


@pytest.fixture
async def replica(open_database: Opener) -> Database:
    """Open the same database once more, as another process does."""
    return await open_database("gateway", MIGRATIONS)
