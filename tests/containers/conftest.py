"""Fixtures that replace those of the whole tree: the same tests on other servers."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops import docker, ports
from ops.broker import BrokerAddress, BrokerPorts, RabbitServer
from ops.docker import RabbitContainer
from ops.postgres import PostgresAccount
from tests.postgres import PostgresContainer

RABBITMQ_IMAGES = ("rabbitmq:4.0-management", "rabbitmq:4.3-management")
# Debian 12 has PostgreSQL 15, with which `make test` runs.
POSTGRES_IMAGES = os.environ.get("POSTGRES_IMAGES", "postgres:17 postgres:18").split()


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Skip where there is no Docker engine."""
    if not docker.answers():
        pytest.skip("no Docker engine answers: install one, or let this user use it")


@pytest.fixture(scope="session", params=RABBITMQ_IMAGES)
def rabbit(request: pytest.FixtureRequest, run_directory: Path) -> Iterator[RabbitServer]:
    """Start each version of RabbitMQ at its first use."""
    image: str = request.param
    address = BrokerAddress(BrokerPorts(*ports.unused(4)), secrets.token_hex(16))
    broker = RabbitContainer(run_directory / image.replace(":", "-"), address, image)
    try:
        broker.start()
        yield broker
    finally:
        broker.discard()


@pytest.fixture(scope="session", params=POSTGRES_IMAGES)
def postgres(request: pytest.FixtureRequest, run_directory: Path) -> Iterator[str]:
    """Start each version of PostgreSQL at its first use; the value is its administrator's URL."""
    image: str = request.param
    record = run_directory / image.replace(":", "-")
    server = PostgresContainer(record, PostgresAccount(ports.unused(1)[0]), image)
    try:
        server.start()
        yield server.account.url()
    finally:
        server.discard()


@pytest.fixture
def database_url(postgres_url: str) -> str:
    """Return a database of its own; SQLite is the same on every machine."""
    return postgres_url
