"""Publishing with confirms, on a channel that is opened again whenever it is closed."""

import asyncio
import time
from collections.abc import Callable

from aiormq.abc import DeliveredMessage
from aiormq.exceptions import DeliveryError, PublishError

from shared import contracts
from shared.delivery import Publishing
from shared.errors import Unavailable
from shared.identity import DIRECT_REPLY
from shared.rabbitmq.channel import Channel
from shared.rabbitmq.connection import CLOSE_SECONDS, Connection, translated
from shared.rabbitmq.frames import PublishFrames
from shared.rabbitmq.queue_reader import consumer_callback

PUBLISH_SECONDS = 5.0  # for a confirm, the wait for a connection included
MAX_UNCONFIRMED = 500  # messages on their way to the broker at once
MAX_LATE_CONFIRMS = 10_000  # due on one channel, most of them of publishes that timed out

OnReply = Callable[[str, str, bytes], None]  # a reply's correlation id, type and body


class _PublishingChannel:
    """One channel to publish on, and the futures of its confirms.

    aiormq counts the messages of a channel, and resolves the future of that number at each confirm,
    refusal or return. A message that is not sent must not be counted, or all later numbers are
    wrong.
    """

    def __init__(self, channel: Channel, frames: PublishFrames) -> None:
        self.channel = channel
        self._frames = frames
        self._loop = asyncio.get_running_loop()
        channel.library.closing.add_done_callback(self._fail)

    @property
    def is_usable(self) -> bool:
        """Whether more can be published, and the broker still confirms."""
        return self.channel.is_open and len(self.channel.library.confirmations) < MAX_LATE_CONFIRMS

    def send(self, item: Publishing) -> None:
        """Send a message. Raises Unavailable, and ValueError for what no frame can hold."""
        self.channel.write(self._frames.pack(item, int(time.time())))

    def publish(self, item: Publishing) -> asyncio.Future[object]:
        """Send a message and return the future of its confirm. Raises as `send` does."""
        self.send(item)
        library = self.channel.library
        library.delivery_tag += 1
        confirm = self._loop.create_future()
        library.confirmations[library.delivery_tag] = confirm
        library.message_id_delivery_tag[item.message_id] = library.delivery_tag
        return confirm

    def forget(self, message_id: str) -> None:
        """Remove the number of a message that was confirmed, returned or given up."""
        self.channel.library.message_id_delivery_tag.pop(message_id, None)

    def _fail(self, closing: asyncio.Future[object]) -> None:
        """Fail all futures that wait for a confirm, since the channel is closed."""
        error = "" if closing.cancelled() else str(closing.exception() or "")
        for confirm in self.channel.library.confirmations.values():
            if not confirm.done():
                confirm.set_exception(Unavailable(error or "the connection was lost"))


class Publisher:
    """Publishes on a channel of its own, which is opened again whenever it is gone.

    Without `confirms` the broker confirms nothing: questions and answers do not need it, since
    their asker has a time limit. With `on_reply` the same channel consumes the replies, as direct
    reply-to requires.
    """

    def __init__(
        self,
        connection: Connection,
        service: str,
        on_reply: OnReply | None = None,
        *,
        confirms: bool = True,
    ) -> None:
        self._connection = connection
        self._service = service
        self._on_reply = on_reply
        self._confirms = confirms
        self._current: _PublishingChannel | None = None
        self._opening = asyncio.Lock()
        self._slots = asyncio.Semaphore(MAX_UNCONFIRMED)
        self._under_way: dict[str, asyncio.Future[object]] = {}

    async def publish(self, item: Publishing) -> None:
        """Publish, and wait for the confirm if there are any, PUBLISH_SECONDS at most.

        Raises Unavailable; the message may be kept even then, unless no queue takes it.
        """
        with translated("not published"):
            async with asyncio.timeout(PUBLISH_SECONDS), self._slots:
                if self._confirms:
                    await self._confirmed(item)
                else:
                    (await self._writable()).send(item)

    async def _confirmed(self, item: Publishing) -> None:
        """Publish and wait for the confirm, after other messages of the same id.

        aiormq 7 finds a returned message by its id alone: of two of one id that both come back,
        it counts one as kept.
        """
        current = await self._writable()
        while (other := self._under_way.get(item.message_id)) is not None:
            await asyncio.wait((other,))
            current = await self._writable()
        confirm = self._under_way[item.message_id] = current.publish(item)
        try:
            await confirm
        except DeliveryError as error:
            raise Unavailable(_refusal(error)) from error
        finally:
            del self._under_way[item.message_id]
            current.forget(item.message_id)

    async def _writable(self) -> _PublishingChannel:
        current = await self._open()
        await current.channel.writable()
        return current

    async def _open(self) -> _PublishingChannel:
        current = self._current
        if current is not None and current.is_usable:
            return current
        async with self._opening:
            if self._current is None or not self._current.is_usable:
                await self._discard()
                self._current = await self._opened()
            return self._current

    async def _opened(self) -> _PublishingChannel:
        channel = await self._connection.channel(confirms=self._confirms)
        library = channel.library
        if self._on_reply is not None:
            on_message = consumer_callback(self._take_reply)
            await library.basic_consume(DIRECT_REPLY, on_message, no_ack=True)
        names = (self._connection.user, self._service)
        return _PublishingChannel(
            channel, PublishFrames(channel.number, library.max_content_size, *names)
        )

    async def _discard(self) -> None:
        """Close the channel if it is still open: the broker has stopped to confirm on it."""
        current, self._current = self._current, None
        if current is not None and current.channel.is_open:
            await current.channel.library.close(timeout=CLOSE_SECONDS)

    def _take_reply(self, message: DeliveredMessage) -> None:
        properties = message.header.properties
        kind = properties.message_type or ""
        if self._on_reply is not None and len(message.body) <= contracts.max_bytes(kind):
            self._on_reply(properties.correlation_id or "", kind, message.body)


def _refusal(error: DeliveryError) -> str:
    if isinstance(error, PublishError):
        return f"no queue takes {error}"
    return "the broker does not keep the message: a queue is full, or broken"
