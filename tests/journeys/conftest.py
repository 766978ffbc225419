"""One stack for all journeys that do not change it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.journeys.stack import Stack, running
from tests.journeys.user import User


@pytest.fixture(scope="session")
def stack(run_directory: Path) -> Iterator[Stack]:
    """Start the stack at its first use."""
    with running(run_directory / "stack") as started:
        yield started


@pytest.fixture
async def user(stack: Stack) -> AsyncIterator[User]:
    """Return a user of that stack."""
    async with User.of(stack.record) as somebody:
        yield somebody
