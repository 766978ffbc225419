"""Exchanges, queues and bindings, made by an administrator."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from aio_pika.abc import AbstractChannel, AbstractConnection
from yarl import URL

from shared.config.url import masked
from shared.rabbitmq.connection import Connection, translated
from shared.topology import Exchange, Queue

DECLARE_SECONDS = 60.0  # of the whole topology: each quorum queue elects a leader
CHANNELS = 4  # on which queues elect at the same time: half of the time of one, eight gain no more


async def declare(url: str, exchanges: Iterable[Exchange], queues: Sequence[Queue]) -> None:
    """Make exchanges, queues and bindings; harmless when they are there already.

    Raises Unavailable, also when one is there with other arguments: those can never be changed.
    """
    async with Connection.open(URL(url), "declare", 0) as connection:
        with translated(masked(URL(url))):
            async with asyncio.timeout(DECLARE_SECONDS):
                library = await connection.library()
                async with library.channel() as channel:
                    await _declare_exchanges(channel, exchanges)
                left = iter(queues)  # shared by all channels
                await asyncio.gather(*(_declare_queues(library, left) for _ in range(CHANNELS)))


async def _declare_exchanges(channel: AbstractChannel, exchanges: Iterable[Exchange]) -> None:
    for exchange in exchanges:
        alternate = exchange.alternate
        arguments: dict[str, Any] = {"alternate-exchange": alternate} if alternate else {}
        await channel.declare_exchange(
            exchange.name,
            exchange.kind,
            durable=True,
            arguments=arguments,
        )


async def _declare_queues(library: AbstractConnection, queues: Iterable[Queue]) -> None:
    async with library.channel() as channel:
        for queue in queues:
            declared = await channel.declare_queue(
                queue.name, durable=True, arguments=dict(queue.arguments)
            )
            for binding in queue.bindings:
                await declared.bind(binding.exchange, binding.key)
