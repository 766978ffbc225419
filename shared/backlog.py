"""Messages that wait for their turn, with a bound on the memory that bodies take.

A prefetch counts messages of one queue, and RabbitMQ has none that counts bytes or all queues:
forty mails of 15 MiB are 600 MiB. Bodies beyond the bound wait on disk, in a file that no other
process can open.
"""

import sys
import tempfile
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import IO, Generic, NamedTuple, TypeVar

import structlog

from shared.contracts.mail import MAX_MAIL_BYTES
from shared.contracts.message import MAX_SMALL_BYTES
from shared.delivery import Delivery
from shared.errors import Unavailable
from shared.inflight import DeliveryTag

MAX_HELD_BYTES = 32 << 20  # of large bodies that one subscription handles at a time
MAX_WAITING_BYTES = 8 << 20  # of small bodies that wait in memory
PLACE_BYTES = MAX_MAIL_BYTES  # of a body on disk; larger bodies are rejected before

T = TypeVar("T")

logger = structlog.get_logger(__name__)


class FairQueue(Generic[T]):
    """Items of several flows: each flow in its order, one item of each flow in a round.

    A flow that comes anew waits for one round at most, however long the others are.
    """

    def __init__(self) -> None:
        self._flows: OrderedDict[Hashable, deque[T]] = OrderedDict()  # the next one first

    def __bool__(self) -> bool:
        return bool(self._flows)

    def push(self, flow: Hashable, item: T) -> None:
        """Add an item at the end of its flow."""
        self._flows.setdefault(flow, deque()).append(item)

    def pop(self, is_able: Callable[[T], bool] = lambda _: True) -> T | None:
        """Remove and return the first item of the next flow whose first item is able, if any.

        A flow that is passed over keeps its turn.
        """
        for flow, items in self._flows.items():
            if is_able(items[0]):
                return self._shift(flow)
        return None

    def clear(self) -> list[T]:
        """Remove and return all items, flow by flow."""
        items = [item for flow in self._flows.values() for item in flow]
        self._flows.clear()
        return items

    def _shift(self, flow: Hashable) -> T:
        items = self._flows[flow]
        item = items.popleft()
        if items:
            self._flows.move_to_end(flow)
        else:
            del self._flows[flow]
        return item


class Waiting(NamedTuple):
    """A message, its tag, and the place of its body on disk; None if the body is in memory."""

    message: Delivery
    tag: DeliveryTag
    size: int
    place: int | None


class Backlog:
    """The messages that wait until those being handled leave them room, the queues in turn.

    At most `places` are handled at a time, so that several queues take no more memory than one.
    Large bodies share `room` bytes as well. No small body waits for a large one, as a code does not
    wait for an attachment.
    """

    def __init__(self, room: int = MAX_HELD_BYTES, places: int | None = None) -> None:
        self._room = room
        self._held = 0  # bytes of the large bodies being handled
        # A body up to this size takes neither a place nor room, and is not passed to `admit`.
        self.free_bytes = MAX_SMALL_BYTES if places is None else -1
        self._places = sys.maxsize if places is None else places
        self._waiting: FairQueue[Waiting] = FairQueue()
        self._waiting_bytes = 0  # of bodies in memory
        self._spool = Spool()

    def admit(self, message: Delivery, tag: DeliveryTag) -> bool:
        """Return whether a message may be handled now; else it waits for `leave`."""
        size = len(message.body)
        # With a free place only large bodies wait; another one would pass them.
        if self._places and (not _is_large(size) or (not self._waiting and self._has_room(size))):
            self._enter(size)
            return True
        place = self._spooled(message.body)
        kept = message if place is None else replace(message, body=b"")
        self._waiting_bytes += len(kept.body)
        self._waiting.push((message.queue, _is_large(size)), Waiting(kept, tag, size, place))
        return False

    def leave(self, size: int) -> Iterator[tuple[Delivery, DeliveryTag]]:
        """Free the place of a handled body; yield the messages that may be handled now.

        A message whose body the disk does not return goes back to the broker.
        """
        self._places += 1
        self._held -= size * _is_large(size)
        while self._places and (waiting := self._next()) is not None:
            self._waiting_bytes -= len(waiting.message.body)
            message = self._whole(waiting)
            if message is not None and not waiting.tag.void:  # else it comes again
                self._enter(waiting.size)
                yield message, waiting.tag

    def clear(self) -> list[DeliveryTag]:
        """Drop the messages that wait; return their tags."""
        tags = [each.tag for each in self._waiting.clear()]
        self._waiting_bytes = 0
        self._spool.close()
        return tags

    def _enter(self, size: int) -> None:
        self._places -= 1
        self._held += size * _is_large(size)

    def _next(self) -> Waiting | None:
        """Return the message whose turn it is. A large body that has no room lets no other pass."""
        full = False

        def fits(each: Waiting) -> bool:
            nonlocal full
            full = full or not self._has_room(each.size)
            return not full

        return self._waiting.pop(lambda each: not _is_large(each.size) or fits(each))

    def _has_room(self, size: int) -> bool:
        """Return whether a large body fits; one body alone always does."""
        return not self._held or self._held + size <= self._room

    def _whole(self, waiting: Waiting) -> Delivery | None:
        """Return a message with its body, None if it was given back for want of it."""
        message, tag, size, place = waiting
        if place is None:
            return message
        try:
            return replace(message, body=self._spool.take(place, size))
        except OSError:
            logger.exception("requeued: the disk does not return its body")
            with suppress(Unavailable):  # then the broker has it already
                tag.requeue()
            return None

    def _spooled(self, body: bytes) -> int | None:
        """Return the place of a body on disk; None if it stays in memory."""
        if not _is_large(len(body)) and self._waiting_bytes + len(body) <= MAX_WAITING_BYTES:
            return None
        try:
            return self._spool.put(body)
        except OSError as error:
            logger.warning("a body stays in memory: the disk does not take it", reason=str(error))
            return None


def _is_large(size: int) -> bool:
    return size > MAX_SMALL_BYTES


class Spool:
    """A file without a name, made when it is needed, with places of PLACE_BYTES."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._free: list[int] = []
        self._places = 0

    def put(self, body: bytes) -> int:
        """Keep a body; return the number of its place. Raises OSError."""
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 -- it lives as long as this object
        place = self._free[-1] if self._free else self._places
        self._file.seek(place * PLACE_BYTES)
        self._file.write(body)
        self._file.flush()
        if self._free:
            self._free.pop()
        else:
            self._places += 1
        return place

    def take(self, place: int, size: int) -> bytes:
        """Return a body and free its place; the last one takes the file with it. Raises OSError."""
        if self._file is None:
            raise ValueError("nothing was put here")
        try:
            self._file.seek(place * PLACE_BYTES)
            body = self._file.read(size)
        finally:
            self._free.append(place)
            if len(self._free) == self._places:
                self.close()
        if len(body) < size:
            raise OSError("the file is shorter than what was written to it")
        return body

    def close(self) -> None:
        """Free the disk."""
        if self._file is not None:
            with suppress(OSError):  # of a buffer that nobody reads any more
                self._file.close()
        self._file, self._free, self._places = None, [], 0
