"""The stores of one test, as this service and as another replica have them."""

import pytest

from services.webhooks.service import MIGRATIONS
from tests.clock import Clock
from tests.databases import Opener
from tests.webhooks.store.tables import Tables


@pytest.fixture
async def tables(open_database: Opener, clock: Clock) -> Tables:
    """Return the stores of one test."""
    return Tables.of(await open_database("webhooks", MIGRATIONS), clock)


@pytest.fixture
async def other(open_database: Opener, clock: Clock) -> Tables:
    """Return the stores as another replica has them."""
    return Tables.of(await open_database("webhooks", MIGRATIONS), clock)
