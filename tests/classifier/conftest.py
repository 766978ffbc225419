"""Fixtures of the classifier's stores."""

import pytest

from services.classifier.service import MIGRATIONS
from shared.storage.database import Database
from tests.databases import Opener


@pytest.fixture
async def database(open_database: Opener) -> Database:
    """Open the database of one test."""
    return await open_database("classifier", MIGRATIONS)


@pytest.fixture
async def replica(open_database: Opener) -> Database:
    """Open the same database once more, as another process does."""
    return await open_database("classifier", MIGRATIONS)
