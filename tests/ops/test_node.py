"""A private RabbitMQ node."""

from urllib.parse import urlsplit

import aio_pika
import pytest
from pamqp.common import FieldTable

from ops.broker import RabbitServer

pytestmark = pytest.mark.rabbit


async def test_serves_amqp_in_a_vhost_of_its_own(vhost: str) -> None:
    """A test's vhost has all rights."""
    async with await aio_pika.connect(vhost) as connection:
        queue = await (await connection.channel()).declare_queue("anything")

    assert queue.declaration_result.message_count == 0


async def test_has_no_guest(rabbit: RabbitServer) -> None:
    """RabbitMQ's default user cannot log in."""
    where = urlsplit(rabbit.address.amqp_url())

    with pytest.raises(aio_pika.exceptions.ProbableAuthenticationError):
        await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{where.port}/")


async def test_refuses_a_body_over_16_mib(vhost: str) -> None:
    """A 3.x node has the limit of 4.x, 16 MiB."""
    async with await aio_pika.connect(vhost) as connection:
        channel = await connection.channel()
        await channel.declare_queue("bodies")
        largest, larger = (aio_pika.Message(b" " * size) for size in (16 << 20, (16 << 20) + 1))
        await channel.default_exchange.publish(largest, "bodies")

        with pytest.raises(aio_pika.exceptions.ChannelClosed, match="PRECONDITION_FAILED"):
            await channel.default_exchange.publish(larger, "bodies")


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
