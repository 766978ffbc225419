"""Containers, for a machine with a Docker engine and no RabbitMQ."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import pytest
from pamqp.common import FieldTable

from ops import docker, ports
from ops.broker import BrokerAddress, BrokerPorts
from ops.docker import RabbitContainer

pytestmark = pytest.mark.container


@pytest.fixture(autouse=True)
def engine() -> None:
    """Skip where there is no engine."""
    if not docker.answers():
        pytest.skip("no Docker engine answers")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RabbitContainer]:
    """Start a broker in a container."""
    broker = RabbitContainer(
        tmp_path, BrokerAddress(BrokerPorts(*ports.unused(4)), secrets.token_hex(16))
    )
    broker.start()
    yield broker
    broker.discard()


async def test_a_broker_in_a_container_keeps_its_data(broker: RabbitContainer) -> None:
    """A second `make up` finds the data of the first one."""
    arguments: FieldTable = {"x-queue-type": "quorum"}
    async with await aio_pika.connect(broker.address.amqp_url()) as connection:
        channel = await connection.channel()
        await channel.declare_queue("kept", durable=True, arguments=arguments)
    broker.restart()

    async with await aio_pika.connect(broker.address.amqp_url()) as connection:
        queue = await (await connection.channel()).get_queue("kept")

    assert queue.name == "kept"


def test_a_container_that_was_left_is_removed(broker: RabbitContainer, tmp_path: Path) -> None:
    """The record that a killed launcher leaves is enough to end its container."""
    name = docker.remove_recorded(tmp_path)

    assert name is not None
    assert not docker.Container(name, tmp_path).runs
    assert docker.remove_recorded(tmp_path) is None
    assert not broker.address.answers()
