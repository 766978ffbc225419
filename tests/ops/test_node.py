"""A private RabbitMQ: its choice, and a node."""

from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import pytest
from pamqp.common import FieldTable

from ops import docker, node
from ops.broker import BrokerError, RabbitServer
from ops.node import RabbitPrograms


@pytest.mark.parametrize(
    ("programs", "engine", "installs", "calls"),
    [
        (True, False, True, []),
        (False, True, True, []),
        (False, False, True, ["--check", "rabbitmq-server"]),
        (False, False, False, ["--check"]),
    ],
    ids=["installed", "container", "package", "nothing"],
)
def test_nothing_is_installed_without_need(
    monkeypatch: pytest.MonkeyPatch,
    programs: bool,  # noqa: FBT001 -- a case of the table
    engine: bool,  # noqa: FBT001
    installs: bool,  # noqa: FBT001
    calls: list[str],
) -> None:
    """RabbitMQ is installed only on a machine without it and without a Docker engine."""
    made: list[str] = []

    def packages(word: str) -> int:
        made.append(word)
        return int(not installs)

    found = RabbitPrograms(Path("server"), Path("epmd")) if programs else None
    monkeypatch.setattr(RabbitPrograms, "find", lambda: found)
    monkeypatch.setattr(docker, "answers", lambda: engine)
    monkeypatch.setattr(node, "_packages", packages)

    if installs:
        node.prepare()
    else:
        with pytest.raises(BrokerError, match="no RabbitMQ: set AMQP_URL"):
            node.prepare()
    assert made == calls


@pytest.mark.rabbit
async def test_serves_amqp_in_a_vhost_of_its_own(vhost: str) -> None:
    """A test's vhost has all rights."""
    async with await aio_pika.connect(vhost) as connection:
        queue = await (await connection.channel()).declare_queue("anything")

    assert queue.declaration_result.message_count == 0


@pytest.mark.rabbit
async def test_has_no_guest(rabbit: RabbitServer) -> None:
    """RabbitMQ's default user cannot log in."""
    where = urlsplit(rabbit.address.amqp_url())

    with pytest.raises(aio_pika.exceptions.ProbableAuthenticationError):
        await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{where.port}/")


@pytest.mark.rabbit
async def test_refuses_a_body_over_16_mib(vhost: str) -> None:
    """A 3.x node has the limit of 4.x, 16 MiB."""
    async with await aio_pika.connect(vhost) as connection:
        channel = await connection.channel()
        await channel.declare_queue("bodies")
        largest, larger = (aio_pika.Message(b" " * size) for size in (16 << 20, (16 << 20) + 1))
        await channel.default_exchange.publish(largest, "bodies")

        with pytest.raises(aio_pika.exceptions.ChannelClosed, match="PRECONDITION_FAILED"):
            await channel.default_exchange.publish(larger, "bodies")


@pytest.mark.rabbit
async def test_a_restarted_broker_has_its_data(rabbit: RabbitServer, vhost: str) -> None:
    """A confirmed message survives a restart."""
    arguments: FieldTable = {"x-queue-type": "quorum"}
    async with await aio_pika.connect(vhost) as connection:
        channel = await connection.channel()
        await channel.declare_queue("kept", durable=True, arguments=arguments)
        message = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key="kept")
    rabbit.restart()

    async with await aio_pika.connect(vhost) as connection:
        queue = await (await connection.channel()).get_queue("kept")
        kept = await queue.get()

    assert kept is not None
    assert kept.body == b"kept"
