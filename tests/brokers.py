"""Fixtures: a RabbitMQ for the whole run, a vhost for each test."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops import node, ports
from ops.broker import BrokerAddress, BrokerPorts, RabbitServer
from ops.process import PidFiles
from ops.run_directory import scratch

_RUNS = Path(__file__).parent.parent / ".run" / "test"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install a broker before the first test, whose time limit an installation would exceed."""
    if any("rabbit" in getattr(item, "fixturenames", ()) for item in session.items):
        node.prepare()


@pytest.fixture(scope="session")
def run_directory() -> Iterator[Path]:
    """Return a directory of this run; a later run clears it if this one is killed."""
    with scratch(_RUNS) as directory:
        yield directory


@pytest.fixture(scope="session")
def rabbit(run_directory: Path) -> Iterator[RabbitServer]:
    """Start a RabbitMQ of our own at its first use and share it by the whole run.

    A test may restart or kill it, when it starts it again and waits for nothing else meanwhile.
    """
    directory = run_directory / "rabbit"
    address = BrokerAddress(BrokerPorts(*ports.unused(4)), secrets.token_hex(16))
    broker = node.private(directory, address, PidFiles(directory / "pids"))
    try:
        broker.start()
        yield broker
    finally:
        broker.discard()


@pytest.fixture
def vhost(rabbit: RabbitServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """Make a vhost for one test; the value is the administrator's AMQP URL of it."""
    name = f"test-{secrets.token_hex(4)}"
    rabbit.address.management.add_vhost(name)
    yield rabbit.address.amqp_url(name)
    # Right after a start the dead-letter workers of quorum queues are starting as well. When their
    # queues go then, RabbitMQ 3.10 gives up on all of them, and declares no more such queues.
    if not request.node.get_closest_marker("restarts"):
        rabbit.address.management.remove_vhost(name)
