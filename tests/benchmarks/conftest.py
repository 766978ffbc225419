"""Fixtures: a bench on the run's own RabbitMQ, and one without any."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks.bench import Bench
from ops.broker import BrokerAddress, BrokerPorts, RabbitServer


@pytest.fixture
def bench(rabbit: RabbitServer, tmp_path: Path) -> Bench:
    """Return a bench that shares the broker of the tests."""
    return Bench(tmp_path, rabbit.address)


@pytest.fixture
def readable(rabbit: RabbitServer) -> Iterator[Bench]:
    """Return a bench in a directory that Postfix can read when it has given up root."""
    with TemporaryDirectory(prefix="postrider-postfix-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield Bench(directory, rabbit.address)


@pytest.fixture
def place(tmp_path: Path) -> Bench:
    """Return a bench without a broker."""
    return Bench(tmp_path, BrokerAddress(BrokerPorts(0, 0, 0, 0), ""))
