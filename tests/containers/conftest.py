"""Fixtures that stand in for those of the whole tree: the same tests, other servers."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops import docker, ports
from ops.broker import BrokerAddress, BrokerPorts, RabbitServer
from ops.docker import RabbitContainer
from ops.postgres import PostgresAccount, PostgresContainer


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Skip where there is no Docker engine."""
    if not docker.answers():
        pytest.skip("no Docker engine answers: install one, or let this user use it")


@pytest.fixture(scope="session")
def rabbit(run_directory: Path) -> Iterator[RabbitServer]:
    """Start RabbitMQ 4.0 at its first use, whatever the machine has of its own."""
    address = BrokerAddress(BrokerPorts(*ports.unused(4)), secrets.token_hex(16))
    broker = RabbitContainer(run_directory / "rabbit-4.0", address)
    try:
        broker.start()
        yield broker
    finally:
        broker.discard()


@pytest.fixture(scope="session")
def postgres(run_directory: Path) -> Iterator[str]:
    """Start PostgreSQL 17 at its first use; the value is its administrator's URL."""
    server = PostgresContainer(run_directory / "postgres-17", PostgresAccount(ports.unused(1)[0]))
    try:
        server.start()
        yield server.account.url()
    finally:
        server.discard()


@pytest.fixture
def database_url(postgres_url: str) -> str:
    """Give a database of its own; SQLite is the same on every machine."""
    return postgres_url
