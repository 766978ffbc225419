"""One channel: questions to the broker one after the other, messages both ways at any time."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from pamqp import commands
from pamqp.base import Frame

from shared.amqp import properties, wire
from shared.amqp.confirms import Confirms, Mark
from shared.amqp.errors import Closed
from shared.amqp.properties import Properties
from shared.amqp.wire import Delivered

# The broker answers within milliseconds, a declaration within the seconds of an election.
CALL_SECONDS = 10.0
_FAREWELL = commands.Channel.Close(200, "", 0, 0)


class Incoming(NamedTuple):
    """A message as it came; it is acknowledged on the channel that gave it and on no other.

    `size` is that of the body in bytes, which is empty where the consumption does not want it.
    """

    channel: "Channel"
    tag: int
    routing_key: str
    properties: Properties
    body: bytes
    size: int

    @property
    def is_unread(self) -> bool:
        """Whether the body was dropped as it came."""
        return self.size > len(self.body)


OnMessage = Callable[[Incoming], None]
Wants = Callable[[str, int], bool]  # of a message's type and the size of its body


class Connection(Protocol):
    """What a channel needs of its connection."""

    largest_frame: int

    def write(self, data: bytes) -> None:
        """Send frames."""

    def forget(self, number: int) -> None:
        """Free the number of a channel."""


class Consumption:
    """A queue being consumed; `ended` is set when the broker or the connection has ended it."""

    def __init__(self, tag: str, on_message: OnMessage, wants: Wants | None) -> None:
        self.tag = tag
        self.on_message = on_message
        self.wants = wants
        self.ended = asyncio.Event()


class _Content:
    """A message of which not all frames have come; no `properties` before its header."""

    __slots__ = ("is_wanted", "left", "method", "pieces", "properties", "size")

    def __init__(self, method: Delivered | Frame) -> None:
        self.method = method
        self.properties: Properties | None = None
        self.size = self.left = 0
        self.is_wanted = True
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
        self._closing = False
        self.number = number
        self.closed: Closed | None = None

    async def call(self, method: Frame) -> Any:  # noqa: ANN401 -- each has its own kind of answer
        """Send a method and give the broker's answer. Raises Closed.

        Cut off while it waits, it closes the channel: the answer would be taken for another's.
        """
        async with self._calling:
            self._check()
            self._closing = method is _FAREWELL
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
        self,
        queue: str,
        on_message: OnMessage,
        *,
        no_ack: bool = False,
        wants: Wants | None = None,
    ) -> Consumption:
        """Have `on_message` called, at once and in order, for each message of a queue.

        Of a message that is not wanted the body is dropped as it comes, so that it takes no memory.
        What it raises goes to the loop's exception handler, and the message stays unacknowledged.
        """
        self._consumed += 1
        # A tag of our own choice: a message may come before the answer.
        tag = f"{self.number}.{self._consumed}"
        consumption = self._consumptions[tag] = Consumption(tag, on_message, wants)
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

        It fails with Returned, Nacked, Closed, or Unconfirmed. Raises as `send` does.
        """
        self.send(body, props, exchange, key, mandatory=mandatory)
        return self._confirms.expect(Mark(props.message_id, exchange, key) if mandatory else None)

    def send(
        self, body: bytes, props: Properties, exchange: str, key: str, *, mandatory: bool
    ) -> None:
        """Send a message of which the broker says nothing, for a channel without confirms.

        Raises Closed, and ValueError for a property or a routing key of more than 255 bytes, or
        headers that no frame can hold.
        """
        self._check()
        header = properties.pack(props, len(body))
        self._connection.write(
            wire.publish(self.number, exchange, key, mandatory=mandatory)
            + wire.content(self.number, header, body, self._connection.largest_frame)
        )

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Acknowledge a delivery; with `multiple` all of the channel up to it. Raises Closed."""
        self._check()
        self._connection.write(wire.ack(self.number, tag, multiple=multiple))

    def requeue(self, tag: int, *, multiple: bool = False) -> None:
        """Put a delivery back into its queue, the same way. Raises Closed."""
        self._check()
        self._connection.write(wire.requeue(self.number, tag, multiple=multiple))

    def reject(self, tag: int) -> None:
        """Reject a delivery: the broker moves it to its queue's dead letters. Raises Closed."""
        self._check()
        self._connection.write(wire.reject(self.number, tag))

    async def close(self) -> None:
        """Close the channel; what is not acknowledged goes back to its queue. Raises Closed."""
        if self.closed is None:
            await self.call(_FAREWELL)

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
        content = self._content
        if kind == wire.METHOD:
            self._take_method(wire.method_of(payload), payload)
        elif kind == wire.HEADER and content is not None and content.properties is None:
            content.size, content.properties = properties.unpack(payload)
            content.left = content.size
            content.is_wanted = self._wants(content, content.properties)
            self._take_body(content, content.properties, b"")
        elif kind == wire.BODY and content is not None and content.properties is not None:
            self._take_body(content, content.properties, payload)
        else:
            raise Closed(f"a frame of type {kind} out of turn")

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
                self.fail(Closed(method.reply_text, method.reply_code or 0))
                # Where both closed at once, the answer to ours is still to come.
                if not self._closing:
                    self._connection.forget(self.number)
            case commands.Channel.CloseOk():
                self._answered(method)
                self.fail(Closed("the channel was closed"))
                self._connection.forget(self.number)
            case _:
                self._answered(method)

    def _wants(self, content: _Content, props: Properties) -> bool:
        if not isinstance(content.method, Delivered):
            return True
        consumption = self._consumptions.get(content.method.consumer)
        if consumption is None or consumption.wants is None:
            return True
        return consumption.wants(props.type or content.method.routing_key, content.size)

    def _take_body(self, content: _Content, props: Properties, piece: bytes) -> None:
        content.left -= len(piece)
        if content.is_wanted:
            content.pieces.append(piece)
        if content.left > 0:
            return
        if content.left < 0:
            raise Closed("a message is longer than was announced")
        self._content = None
        self._take_message(content, props, b"".join(content.pieces))

    def _take_message(self, content: _Content, props: Properties, body: bytes) -> None:
        match method := content.method:
            case Delivered(consumer, tag, key):
                # Without one it was cancelled by the broker, which has taken the message back.
                if consumer in self._consumptions:
                    self._deliver(consumer, Incoming(self, tag, key, props, body, content.size))
            case commands.Basic.GetOk():
                tag, key = method.delivery_tag or 0, method.routing_key or ""
                self._answered(Incoming(self, tag, key, props, body, content.size))
            case commands.Basic.Return():
                mark = Mark(props.message_id, method.exchange or "", method.routing_key or "")
                self._confirms.returned(mark, f"{method.reply_code} {method.reply_text}")

    def _deliver(self, consumer: str, message: Incoming) -> None:
        try:
            self._consumptions[consumer].on_message(message)
        except Exception as error:  # noqa: BLE001 -- one message must not end the connection
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a consumer failed to take a message", "exception": error}
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

    def _abandon(self, why: str) -> None:
        """Close the channel without waiting; its number is free when the broker has agreed."""
        if self.closed is not None:
            return
        # A second farewell has an answer of its own, which could meet the number's next channel.
        if not self._closing:
            self._connection.write(wire.method(_FAREWELL, self.number))
        self._closing = True
        self.fail(Closed(why))
