"""Fixtures: a bench on the run's own RabbitMQ, and one without any."""

from pathlib import Path

import pytest

from benchmarks.bench import Bench
from ops.broker import BrokerAddress, BrokerPorts, RabbitServer


@pytest.fixture
def bench(rabbit: RabbitServer, tmp_path: Path) -> Bench:
    """Return a bench that shares the broker of the tests."""
    return Bench(tmp_path, rabbit.address)


@pytest.fixture
def place(tmp_path: Path) -> Bench:
    """Return a bench without a broker."""
    return Bench(tmp_path, BrokerAddress(BrokerPorts(0, 0, 0, 0), ""))
