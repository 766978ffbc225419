"""Publishing with confirms, on a channel that is opened again whenever it is closed."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile

from shared import contracts
from shared.delivery import Publishing
from shared.errors import NoQueue, Unavailable
from shared.identity import DIRECT_REPLY
from shared.rabbitmq import frames
from shared.rabbitmq.channel import ACK, NACK, RETURN, Channel
from shared.rabbitmq.connection import CLOSE_SECONDS, Connection, translated
from shared.rabbitmq.frames import PublishFrames

PUBLISH_SECONDS = 5.0  # for a confirm, the wait for a connection included
SLICE_MESSAGES = 50  # of many, between which other tasks go on
MAX_UNCONFIRMED = 500  # messages on their way to the broker at once
MAX_LATE_CONFIRMS = 10_000  # due on one channel, most of them of publishes that timed out

OnReply = Callable[[str, str, bytes], None]  # a reply's correlation id, type and body


class _PublishingChannel:
    """One channel to publish on, and the futures of its confirms.

    The broker counts the messages of a channel, and confirms or refuses by number. A message that
    is not sent must not be counted, or all later numbers are wrong. One that no queue takes comes
    back before its confirm, and has no number.
    """

    def __init__(self, channel: Channel, packing: PublishFrames) -> None:
        self.channel = channel
        self._packing = packing
        self._loop = asyncio.get_running_loop()
        self._sent = 0
        self._confirms: dict[int, asyncio.Future[None]] = {}  # by number
        self._by_id: dict[str, asyncio.Future[None]] = {}
        self.found: set[str] = set()  # queues that existed since the channel was opened
        channel.on(ACK, self._on_ack)
        channel.on(NACK, self._on_nack)
        channel.on(RETURN, self._on_return)
        channel.library.closing.add_done_callback(self._fail)

    @property
    def is_usable(self) -> bool:
        """Whether more can be published, and the broker still confirms."""
        return self.channel.is_open and len(self._confirms) < MAX_LATE_CONFIRMS

    def send(self, item: Publishing) -> None:
        """Send a message. Raises Unavailable, and ValueError for what no frame can hold."""
        self.channel.write(self._packing.pack(item, int(time.time())))

    def publish(self, item: Publishing) -> asyncio.Future[None]:
        """Send a message and return the future of its confirm. Raises as `send` does."""
        self.send(item)
        self._sent += 1
        confirm = self._confirms[self._sent] = self._loop.create_future()
        self._by_id[item.message_id] = confirm
        return confirm

    def forget(self, message_id: str) -> None:
        """Remove the id of a message that was confirmed, returned or given up."""
        self._by_id.pop(message_id, None)

    def _on_ack(self, arguments: bytes, _header: bytes, _body: bytes) -> None:
        for confirm in self._confirmed(arguments):
            _resolve(confirm)

    def _on_nack(self, arguments: bytes, _header: bytes, _body: bytes) -> None:
        for confirm in self._confirmed(arguments):
            reason = "the broker does not keep the message: a queue is full, or broken"
            _resolve(confirm, Unavailable(reason))

    def _confirmed(self, arguments: bytes) -> list[asyncio.Future[None]]:
        """Remove and return the futures for which a confirm or a refusal is."""
        number, is_multiple = frames.confirmed(arguments)
        if not is_multiple:
            confirm = self._confirms.pop(number, None)
            return [] if confirm is None else [confirm]
        numbers = list(takewhile(number.__ge__, self._confirms))
        return [self._confirms.pop(each) for each in numbers]

    def _on_return(self, _arguments: bytes, header: bytes, _body: bytes) -> None:
        confirm = self._by_id.get(frames.properties(header).get("message_id", ""))
        if confirm is not None:
            _resolve(confirm, NoQueue("no queue takes the message"))

    def _fail(self, closing: asyncio.Future[object]) -> None:
        """Fail all futures that wait for a confirm, since the channel is closed."""
        error = "" if closing.cancelled() else str(closing.exception() or "")
        for confirm in self._confirms.values():
            _resolve(confirm, Unavailable(error or "the connection was lost"))


def _resolve(confirm: asyncio.Future[None], failure: Unavailable | None = None) -> None:
    """Resolve a future, unless its publisher has gone or its message had come back."""
    if confirm.done():
        return
    if failure:
        confirm.set_exception(failure)
    else:
        confirm.set_result(None)


def _end_of(confirm: asyncio.Future[None], late: Unavailable) -> Unavailable | None:
    """Return the failure of a message, None if it was confirmed; `late` if neither has come."""
    if confirm.cancel() or confirm.cancelled():
        return late
    failure = confirm.exception()
    return failure if failure is None or isinstance(failure, Unavailable) else late


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
        self._finding = asyncio.Lock()
        self._finder: Channel | None = None
        self._slots = asyncio.Semaphore(MAX_UNCONFIRMED)
        self._under_way: dict[str, asyncio.Future[None]] = {}

    async def publish(self, item: Publishing) -> None:
        """Publish, and wait for the confirm if there are any, PUBLISH_SECONDS at most.

        Raises NoQueue, or Unavailable, after which the message may be kept even so.
        """
        with translated("not published"):
            async with asyncio.timeout(PUBLISH_SECONDS), self._slots:
                if self._confirms:
                    await self._confirmed(item)
                else:
                    (await self._writable()).send(item)

    async def publish_all(self, items: Iterable[Publishing]) -> Mapping[str, Unavailable | None]:
        """Publish messages, each with an id of its own, and wait for their confirms.

        Return the end of each message by its id: None, or its failure; a message that was not begun
        has none. All together take PUBLISH_SECONDS at most. A task and a timer for each message
        would cost more than its publish.
        """
        confirms: dict[str, asyncio.Future[None]] = {}
        missing: dict[str | None, Unavailable] = {}  # by the queue that a message needs
        refused: dict[str, Unavailable] = {}
        late = Unavailable("not published: no confirm in time")
        try:
            with translated("not published"):
                async with asyncio.timeout(PUBLISH_SECONDS):
                    for number, item in enumerate(items, start=1):
                        if item.queue not in missing:
                            try:
                                confirms[item.message_id] = await self._begun(item)
                            except Unavailable as error:
                                missing[item.queue] = error
                        if item.message_id not in confirms:
                            refused[item.message_id] = missing[item.queue]
                        if number % SLICE_MESSAGES == 0:
                            await asyncio.sleep(0)
                    if confirms:
                        await asyncio.wait(confirms.values())
        except Unavailable as error:
            late = error
        finally:
            ends = {each: _end_of(confirm, late) for each, confirm in confirms.items()}
        return {**ends, **refused}

    async def _begun(self, item: Publishing) -> asyncio.Future[None]:
        """Send a message and return the future of its confirm, which frees its slot."""
        await self._slots.acquire()
        try:
            current, confirm = await self._sent(item)
        except BaseException:
            self._slots.release()
            raise

        def ended(_: asyncio.Future[None]) -> None:
            self._forget(current, item.message_id)
            self._slots.release()

        confirm.add_done_callback(ended)
        return confirm

    async def _confirmed(self, item: Publishing) -> None:
        """Publish and wait for the confirm."""
        current, confirm = await self._sent(item)
        try:
            await confirm
        finally:
            self._forget(current, item.message_id)

    async def _sent(self, item: Publishing) -> tuple[_PublishingChannel, asyncio.Future[None]]:
        """Publish after other messages of the same id; return the channel and the confirm.

        A returned message has no number, only its id: of two of one id under way, one that was
        kept could be taken for the one that came back.
        """
        current = await self._writable()
        if item.queue is not None and item.queue not in current.found:
            await self._find(item.queue, current)
        while (other := self._under_way.get(item.message_id)) is not None:
            await asyncio.wait((other,))
            current = await self._writable()
        confirm = self._under_way[item.message_id] = current.publish(item)
        return current, confirm

    def _forget(self, current: _PublishingChannel, message_id: str) -> None:
        del self._under_way[message_id]
        current.forget(message_id)

    async def _find(self, queue: str, current: _PublishingChannel) -> None:
        """Raise Unavailable when a queue does not exist.

        It is looked for once a channel: what is deleted later has lost its messages anyway.
        """
        async with self._finding:
            if queue in current.found:
                return
            if self._finder is None or not self._finder.is_open:
                # Not the channel of publishes: the broker closes it for a missing queue.
                self._finder = await self._connection.channel()
            with translated(f"no queue {queue}"):
                await self._finder.library.queue_declare(queue, passive=True)
            current.found.add(queue)

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
            await channel.consume(DIRECT_REPLY, self._on_deliver, no_ack=True)
        names = (self._connection.user, self._service)
        return _PublishingChannel(
            channel, PublishFrames(channel.number, library.max_content_size, *names)
        )

    async def _discard(self) -> None:
        """Close the channel if it is still open: the broker has stopped to confirm on it."""
        current, self._current = self._current, None
        if current is not None and current.channel.is_open:
            await current.channel.library.close(timeout=CLOSE_SECONDS)

    def _on_deliver(self, _arguments: bytes, header: bytes, body: bytes) -> None:
        text = frames.properties(header).get
        kind: str = text("message_type", "")
        if self._on_reply is not None and len(body) <= contracts.max_bytes(kind):
            self._on_reply(text("correlation_id", ""), kind, body)
