"""Fixtures: a running console and an operator who is logged in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.console.answers import Answers, answering
from tests.console.operator import Operator, declare, settings, visiting


@pytest.fixture
async def visitor(vhost: str, tmp_path: Path) -> AsyncIterator[Operator]:
    """Run a console on a broker with its queues; yield an operator who is not logged in."""
    await declare(vhost)
    async with visiting(settings(vhost, tmp_path)) as found:
        yield found


@pytest.fixture
async def operator(visitor: Operator) -> Operator:
    """Log the operator in."""
    await visitor.log_in()
    return visitor


@pytest.fixture
async def answers(vhost: str, visitor: Operator) -> AsyncIterator[Answers]:
    """Answer the console's questions by the examples of the contracts."""
    del visitor  # which has declared the queues
    async with answering(vhost) as found:
        yield found
