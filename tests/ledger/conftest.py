"""Fixtures of the ledger's suppression list."""

import pytest

from services.ledger.mails import DAY_MILLISECONDS
from services.ledger.service import MIGRATIONS
from services.ledger.store.forgetting import AddressForgetter
from services.ledger.store.suppressing import SuppressionStore
from tests.clock import Clock
from tests.databases import Opener
from tests.sender.senders import HASHER

WEEK = 7 * DAY_MILLISECONDS


class Changes:
    """Counts the calls after commits."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        """Count a call."""
        self.count += 1


@pytest.fixture
def changes() -> Changes:
    """Return the count of one test."""
    return Changes()


@pytest.fixture
async def entries(open_database: Opener, clock: Clock, changes: Changes) -> SuppressionStore:
    """Return the list, in which a first bounce counts for a week."""
    database = await open_database("ledger", MIGRATIONS)
    return SuppressionStore(database, HASHER, WEEK, changes, clock)


@pytest.fixture
async def other(open_database: Opener, clock: Clock) -> SuppressionStore:
    """Return the list as another replica has it."""
    return SuppressionStore(
        await open_database("ledger", MIGRATIONS), HASHER, WEEK, lambda: None, clock
    )


@pytest.fixture
async def forgetter(open_database: Opener, clock: Clock) -> AddressForgetter:
    """Return what forgets people."""
    return AddressForgetter(await open_database("ledger", MIGRATIONS), HASHER, clock)
