"""Publishing with confirms, on a channel that is opened again whenever it is closed."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
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


class _Call:
    """The messages of one call of a publisher, by their ids."""

    __slots__ = ("ends", "waiter", "waiting")

    def __init__(self) -> None:
        self.waiting: set[str] = set()  # that were sent, without a confirm
        self.ends: dict[str, Unavailable | None] = {}  # None of a message that was confirmed
        self.waiter: asyncio.Future[None] | None = None  # of the last confirm

    async def wait(self) -> None:
        """Wait for the confirms of all messages that were sent."""
        if self.waiting:
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter

    def end(self, message_id: str, failure: Unavailable | None) -> None:
        """Note the end of a message that was sent."""
        self.waiting.discard(message_id)
        self.ends[message_id] = failure
        if not self.waiting and self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


@dataclass(slots=True, eq=False)
class _Sent:
    """A message that was sent, and the failure that came before its confirm."""

    message_id: str
    call: _Call
    failure: Unavailable | None = None


class _PublishingChannel:
    """One channel to publish on, and the messages that wait for a confirm.

    The broker counts the messages of a channel, and confirms or refuses by number. A message that
    is not sent must not be counted, or all later numbers are wrong. One that no queue takes comes
    back before its confirm, and has no number. `on_end` gets each message that has ended.
    """

    def __init__(
        self, channel: Channel, packing: PublishFrames, on_end: Callable[[_Sent], None]
    ) -> None:
        self.channel = channel
        self._packing = packing
        self._on_end = on_end
        self._count = 0
        self._sent: dict[int, _Sent] = {}  # by number
        self._by_id: dict[str, _Sent] = {}
        self.found: set[str] = set()  # queues that existed since the channel was opened
        channel.on(ACK, self._on_ack)
        channel.on(NACK, self._on_nack)
        channel.on(RETURN, self._on_return)
        channel.library.closing.add_done_callback(self._fail)

    @property
    def is_usable(self) -> bool:
        """Whether more can be published, and the broker still confirms."""
        return self.channel.is_open and len(self._sent) < MAX_LATE_CONFIRMS

    def send(self, item: Publishing) -> None:
        """Send a message. Raises Unavailable, and ValueError for what no frame can hold."""
        self.channel.write(self._packing.pack(item, int(time.time())))

    def publish(self, item: Publishing, call: _Call) -> None:
        """Send a message that the broker confirms. Raises as `send` does."""
        self.send(item)
        self._count += 1
        sent = _Sent(item.message_id, call)
        self._sent[self._count] = self._by_id[item.message_id] = sent

    def _on_ack(self, arguments: bytes, _header: bytes, _body: bytes) -> None:
        self._settle(arguments, None)

    def _on_nack(self, arguments: bytes, _header: bytes, _body: bytes) -> None:
        reason = "the broker does not keep the message: a queue is full, or broken"
        self._settle(arguments, Unavailable(reason))

    def _settle(self, arguments: bytes, failure: Unavailable | None) -> None:
        """End the messages for which a confirm or a refusal is."""
        number, is_multiple = frames.confirmed(arguments)
        numbers = [*takewhile(number.__ge__, self._sent)] if is_multiple else [number]
        for each in numbers:
            if (sent := self._sent.pop(each, None)) is not None:
                self._end(sent, failure)

    def _end(self, sent: _Sent, failure: Unavailable | None) -> None:
        if self._by_id.get(sent.message_id) is sent:
            del self._by_id[sent.message_id]
        sent.failure = sent.failure or failure
        self._on_end(sent)

    def _on_return(self, _arguments: bytes, header: bytes, _body: bytes) -> None:
        sent = self._by_id.get(frames.properties(header).get("message_id", ""))
        if sent is not None:
            sent.failure = NoQueue("no queue takes the message")

    def _fail(self, closing: asyncio.Future[object]) -> None:
        """End all messages that wait for a confirm, since the channel is closed."""
        error = "" if closing.cancelled() else str(closing.exception() or "")
        sent, self._sent = self._sent, {}
        for each in sent.values():
            self._end(each, Unavailable(error or "the connection was lost"))


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
        self._under_way: dict[str, _Call] = {}  # by the ids of messages that have no end
        self._waiters: deque[asyncio.Future[None]] = deque()  # of calls that wait for an end

    async def publish(self, item: Publishing) -> None:
        """Publish, and wait for the confirm if there are any, PUBLISH_SECONDS at most.

        Raises NoQueue, or Unavailable, after which the message may be kept even so.
        """
        call = _Call()
        try:
            with translated("not published"):
                async with asyncio.timeout(PUBLISH_SECONDS):
                    if not self._confirms:
                        (await self._writable()).send(item)
                        return
                    await self._send(item, call)
                    await call.wait()
        finally:
            self._forget(call)
        if failure := call.ends[item.message_id]:
            raise failure

    async def publish_all(self, items: Iterable[Publishing]) -> Mapping[str, Unavailable | None]:
        """Publish messages, each with an id of its own, and wait for their confirms.

        Return the end of each message by its id: None, or its failure; a message that was not begun
        has none. All together take PUBLISH_SECONDS at most. A task, a future and a timer for each
        message would cost more than its publish.
        """
        call = _Call()
        missing: dict[str | None, Unavailable] = {}  # by the queue that a message needs
        late = Unavailable("not published: no confirm in time")
        try:
            with translated("not published"):
                async with asyncio.timeout(PUBLISH_SECONDS):
                    for number, item in enumerate(items, start=1):
                        if item.queue not in missing:
                            try:
                                await self._send(item, call)
                            except Unavailable as error:
                                missing[item.queue] = error
                        if item.queue in missing:
                            call.ends[item.message_id] = missing[item.queue]
                        if number % SLICE_MESSAGES == 0:
                            await asyncio.sleep(0)
                    await call.wait()
        except Unavailable as error:
            late = error
        finally:
            call.ends |= dict.fromkeys(call.waiting, late)
            self._forget(call)
        return call.ends

    async def _send(self, item: Publishing, call: _Call) -> None:
        """Publish when there is room, and after other messages of the same id.

        A returned message has no number, only its id: of two of one id under way, one that was
        kept could be taken for the one that came back.
        """
        current = await self._writable()
        if item.queue is not None and item.queue not in current.found:
            await self._find(item.queue, current)
        while item.message_id in self._under_way or len(self._under_way) >= MAX_UNCONFIRMED:
            await self._one_ended()
            current = await self._writable()
        current.publish(item, call)
        self._under_way[item.message_id] = call
        call.waiting.add(item.message_id)

    async def _one_ended(self) -> None:
        """Wait until a message ends; the calls that wait go on in their order."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _on_end(self, sent: _Sent) -> None:
        """Pass an end to the call of the message, unless the call has given up."""
        if self._under_way.get(sent.message_id) is sent.call:
            del self._under_way[sent.message_id]
            sent.call.end(sent.message_id, sent.failure)
            self._wake()

    def _forget(self, call: _Call) -> None:
        """Forget the messages of a call that have no end: it waits for them no longer."""
        for message_id in call.waiting:
            del self._under_way[message_id]
        call.waiting.clear()
        self._wake()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

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
            channel,
            PublishFrames(channel.number, library.max_content_size, *names),
            self._on_end,
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
