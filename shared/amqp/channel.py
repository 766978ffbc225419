"""One channel: questions to the broker one after the other, messages both ways at any time."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from pamqp import commands
from pamqp.base import Frame

from shared.amqp import properties, wire
from shared.amqp.confirms import Confirms
from shared.amqp.errors import Closed
from shared.amqp.properties import Properties
from shared.amqp.wire import Delivered

# The broker answers within milliseconds, a declaration within the seconds of an election.
CALL_SECONDS = 10.0


class Incoming(NamedTuple):
    """A message as it came; it is acknowledged on the channel that gave it and on no other."""

    channel: "Channel"
    tag: int
    routing_key: str
    properties: Properties
    body: bytes


OnMessage = Callable[[Incoming], None]


class Connection(Protocol):
    """What a channel needs of its connection."""

    largest_frame: int

    def write(self, data: bytes) -> None:
        """Send frames."""

    def forget(self, number: int) -> None:
        """Free the number of a channel."""


class Consumption:
    """A queue being consumed; `ended` is set when the broker or the connection has ended it."""

    def __init__(self, tag: str, on_message: OnMessage) -> None:
        self.tag = tag
        self.on_message = on_message
        self.ended = asyncio.Event()


class _Content:
    """A message of which not all frames have come."""

    __slots__ = ("left", "method", "pieces", "properties")

    def __init__(self, method: Delivered | Frame) -> None:
        self.method = method
        self.properties = Properties()
        self.left = 0
        self.pieces: list[bytes] = []


class Channel:
    """Made by its connection. Everything raises Closed from when `closed` is set."""

    def __init__(self, connection: Connection, number: int) -> None:
        self._connection = connection
        self._calling = asyncio.Lock()
        self._answer: asyncio.Future[Any] | None = None
        self._content: _Content | None = None
        self._consumptions: dict[str, Consumption] = {}
        self._confirms = Confirms()
        self._consumed = 0
        self.number = number
        self.closed: Closed | None = None

    async def call(self, method: Frame) -> Any:  # noqa: ANN401 -- each has its own kind of answer
        """Send a method and give the broker's answer. Raises Closed.

        Cut off while it waits, it closes the channel: the answer would be taken for another's.
        """
        async with self._calling:
            self._check()
            self._answer = asyncio.get_running_loop().create_future()
            try:
                self._connection.write(wire.method(method, self.number))
                async with asyncio.timeout(CALL_SECONDS):
                    return await self._answer
            except TimeoutError:
                self._abandon(f"no answer to {method.name} in {CALL_SECONDS:g} s")
                self._check()
            except asyncio.CancelledError:
                self._abandon(f"{method.name} was cut off")
                raise
            finally:
                self._answer = None

    async def consume(
        self, queue: str, on_message: OnMessage, *, no_ack: bool = False
    ) -> Consumption:
        """Have `on_message` called, at once and in order, for each message of a queue."""
        self._consumed += 1
        # A tag of our own choice: a message may come before the answer.
        tag = f"{self.number}.{self._consumed}"
        consumption = self._consumptions[tag] = Consumption(tag, on_message)
        await self.call(commands.Basic.Consume(queue=queue, consumer_tag=tag, no_ack=no_ack))
        return consumption

    async def cancel(self, consumption: Consumption) -> None:
        """Take no more messages; those that have come are still ours."""
        await self.call(commands.Basic.Cancel(consumer_tag=consumption.tag))
        self._ended(consumption.tag)

    async def get(self, queue: str) -> Incoming | None:
        """Fetch one message, None when the queue is empty."""
        answer = await self.call(commands.Basic.Get(queue=queue))
        return answer if isinstance(answer, Incoming) else None

    def publish(
        self, body: bytes, props: Properties, exchange: str, key: str, *, mandatory: bool
    ) -> asyncio.Future[None]:
        """Send a message and give the future of its confirm, for a channel that has confirms.

        It fails with Returned, Nacked, Closed, or Unconfirmed. Raises Closed, and ValueError for a
        property or a routing key of more than 255 bytes.
        """
        self._check()
        header = properties.pack(props, len(body))
        self._connection.write(
            wire.publish(self.number, exchange, key, mandatory=mandatory)
            + wire.content(self.number, header, body, self._connection.largest_frame)
        )
        return self._confirms.expect(props.message_id)

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Acknowledge a delivery; with `multiple` all of the channel up to it. Raises Closed."""
        self._check()
        self._connection.write(wire.ack(self.number, tag, multiple=multiple))

    async def close(self) -> None:
        """Close the channel; what is not acknowledged goes back to its queue. Raises Closed."""
        if self.closed is None:
            await self.call(commands.Channel.Close(200, "", 0, 0))

    def fail(self, reason: Closed) -> None:
        """End all that waits, since the channel is gone."""
        if self.closed is not None:
            return
        self.closed = reason
        self._confirms.fail(str(reason))
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Closed(str(reason), reason.code))
        for tag in list(self._consumptions):
            self._ended(tag)

    def take(self, kind: int, payload: bytes) -> None:
        """Take a frame that came for this channel. Raises Closed when it makes no sense."""
        if kind == wire.METHOD:
            self._take_method(wire.method_of(payload), payload)
        elif self._content is None:
            raise Closed("content without a method")
        elif kind == wire.HEADER:
            self._content.left, self._content.properties = properties.unpack(payload)
            self._take_body(self._content, b"")
        else:
            self._take_body(self._content, payload)

    def _take_method(self, number: int, payload: bytes) -> None:
        if number == wire.DELIVER:
            self._content = _Content(wire.read_deliver(payload))
        elif number in (wire.ACK, wire.NACK):
            tag, multiple = wire.read_confirm(payload)
            self._confirms.settle(tag, multiple=multiple, kept=number == wire.ACK)
        else:
            self._take_rare(wire.read_method(payload))

    def _take_rare(self, method: Frame) -> None:
        match method:
            case commands.Basic.Return() | commands.Basic.GetOk():
                self._content = _Content(method)
            case commands.Basic.Cancel():
                self._ended(method.consumer_tag)
            case commands.Channel.Close():
                self._connection.write(wire.method(commands.Channel.CloseOk(), self.number))
                self._gone(Closed(method.reply_text, method.reply_code or 0))
            case commands.Channel.CloseOk():
                self._answered(method)
                self._gone(Closed("the channel was closed"))
            case _:
                self._answered(method)

    def _take_body(self, content: _Content, piece: bytes) -> None:
        content.left -= len(piece)
        content.pieces.append(piece)
        if content.left > 0:
            return
        self._content = None
        method, props, body = content.method, content.properties, b"".join(content.pieces)
        match method:
            case Delivered(consumer, tag, key):
                consumption = self._consumptions.get(consumer)
                # Without one it was cancelled by the broker, which has taken the message back.
                if consumption is not None:
                    consumption.on_message(Incoming(self, tag, key, props, body))
            case commands.Basic.GetOk():
                tag, key = method.delivery_tag or 0, method.routing_key or ""
                self._answered(Incoming(self, tag, key, props, body))
            case commands.Basic.Return():
                self._confirms.returned(
                    props.message_id, f"{method.reply_code} {method.reply_text}"
                )

    def _answered(self, answer: object) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _ended(self, tag: str | None) -> None:
        consumption = self._consumptions.pop(tag or "", None)
        if consumption is not None:
            consumption.ended.set()

    def _check(self) -> None:
        if self.closed is not None:
            raise Closed(str(self.closed), self.closed.code)

    def _gone(self, reason: Closed) -> None:
        self.fail(reason)
        self._connection.forget(self.number)

    def _abandon(self, why: str) -> None:
        """Close the channel without waiting; its number is free when the broker has agreed."""
        if self.closed is None:
            close = commands.Channel.Close(200, "", 0, 0)
            self._connection.write(wire.method(close, self.number))
            self.fail(Closed(why))
