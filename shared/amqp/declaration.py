"""What is asked of the broker about exchanges and queues. Everything raises Closed."""

from collections.abc import Mapping

from pamqp import commands

from shared.amqp.channel import Channel


async def exchange(channel: Channel, name: str, kind: str, alternate: str | None) -> None:
    """Make a durable exchange, with an alternate for what it cannot route."""
    arguments = {"alternate-exchange": alternate} if alternate else {}
    await channel.call(
        commands.Exchange.Declare(
            exchange=name, exchange_type=kind, durable=True, arguments=dict(arguments)
        )
    )


async def queue(channel: Channel, name: str, arguments: Mapping[str, str | int]) -> None:
    """Make a durable queue."""
    await channel.call(commands.Queue.Declare(queue=name, durable=True, arguments=dict(arguments)))


async def bind(channel: Channel, name: str, source: str, key: str) -> None:
    """Bind a queue to an exchange."""
    await channel.call(commands.Queue.Bind(queue=name, exchange=source, routing_key=key))


async def count(channel: Channel, name: str) -> int:
    """Tell how many messages wait in a queue that must be there."""
    answer = await channel.call(commands.Queue.Declare(queue=name, passive=True))
    waiting: int = answer.message_count or 0
    return waiting
