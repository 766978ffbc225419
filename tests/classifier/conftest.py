"""Fixtures of the classifier's stores."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.classifier.service import MIGRATIONS
from shared.database import Database


@pytest.fixture
async def database(database_url: str | None, tmp_path: Path) -> AsyncIterator[Database]:
    """Open the database of one test."""
    async with Database.open("classifier", database_url, tmp_path, MIGRATIONS) as opened:
        yield opened


@pytest.fixture
async def replica(
    database: Database, database_url: str | None, tmp_path: Path
) -> AsyncIterator[Database]:
    """Open the same database once more, as another process does."""
    del database  # opened first
    async with Database.open("classifier", database_url, tmp_path, MIGRATIONS) as opened:
        yield opened
