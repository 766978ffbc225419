"""Fixtures: a bench on the run's own RabbitMQ."""

from pathlib import Path

import pytest

from benchmarks.bench import Bench
from ops.broker import RabbitServer


@pytest.fixture
def bench(rabbit: RabbitServer, tmp_path: Path) -> Bench:
    """Return a bench that shares the broker of the tests."""
    return Bench(tmp_path, rabbit.address)
