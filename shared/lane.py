"""A way to publish: a channel, opened again whenever it is gone."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from shared.amqp.channel import Channel
from shared.amqp.properties import Properties
from shared.delivery import Publishing
from shared.link import Link

PUBLISH_SECONDS = 5.0  # for a confirm, the wait for a connection included
MAX_UNCONFIRMED = 500  # publishings under way at once

Prepare = Callable[[Channel], Awaitable[object]]


class Lane:
    """Publishes over `link` in the name of a service; `prepare` is done with each new channel.

    Without `confirms` the broker says nothing of what is published: for questions and answers, of
    which the other side's silence tells as much.
    """

    def __init__(
        self, link: Link, service: str, prepare: Prepare | None = None, *, confirms: bool = True
    ) -> None:
        self._link = link
        self._service = service
        self._prepare = prepare
        self._confirms = confirms
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        self._slots = asyncio.Semaphore(MAX_UNCONFIRMED)

    async def open(self) -> Channel:
        """Give the channel, a new one if the last is gone. Raises Closed."""
        channel = self._channel
        if channel is not None and channel.closed is None:
            return channel
        async with self._opening:
            if self._channel is None or self._channel.closed is not None:
                channel = await self._link.channel(confirms=self._confirms)
                if self._prepare is not None:
                    await self._prepare(channel)
                self._channel = channel
            return self._channel

    async def publish(self, item: Publishing) -> None:
        """Publish, and wait for the confirm if there are any, PUBLISH_SECONDS at most.

        Raises AmqpError, TimeoutError, and ValueError for a message that no frame can hold.
        """
        channel = self._channel
        is_free = channel is not None and channel.closed is None and not self._slots.locked()
        if is_free and self._link.is_writable:
            # A confirm has the same limit of its own: no second timer for each message.
            await self._publish(item)
        else:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self._publish(item)

    async def _publish(self, item: Publishing) -> None:
        async with self._slots:
            channel = await self.open()
            await self._link.writable()
            message = (item.body, self._properties(item), item.exchange, item.routing_key)
            if self._confirms:
                await channel.publish(*message, mandatory=item.mandatory)
            else:
                channel.send(*message, mandatory=False)

    def _properties(self, item: Publishing) -> Properties:
        return Properties(
            content_type="application/json",
            headers=item.headers,
            persistent=item.persistent,
            correlation_id=item.correlation_id,
            reply_to=item.reply_to,
            message_id=item.message_id,
            timestamp=int(time.time()),
            type=item.type,
            user_id=self._link.user,
            app_id=self._service,
        )
