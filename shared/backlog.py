"""Messages that wait for their turn, with a bound on the memory that they take.

A prefetch counts messages, and RabbitMQ has none that counts bytes: forty mails of 15 MiB are
600 MiB. Bodies beyond the bound wait on disk, in a file that no other process can open.
"""

import tempfile
from collections import deque
from dataclasses import replace
from typing import IO, NamedTuple

import structlog

from shared.contracts.mail import MAX_MAIL_BYTES
from shared.delivery import Delivery
from shared.settling import Receipt

MAX_HELD_BYTES = 32 << 20  # of bodies in memory, for each subscription
PLACE_BYTES = MAX_MAIL_BYTES  # on disk: no larger body is read

logger = structlog.get_logger(__name__)


class Waiting(NamedTuple):
    """A message, what settles it, and the number of its body's place, None for one in memory."""

    message: Delivery
    receipt: Receipt
    size: int
    place: int | None = None


class Backlog:
    """Messages in the order of their coming; `room` bytes of their bodies are in memory."""

    def __init__(self, room: int = MAX_HELD_BYTES) -> None:
        self._room = room
        self._held = 0
        self._waiting: deque[Waiting] = deque()
        self._spool = Spool()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    @property
    def first_size(self) -> int:
        """The bytes of the body that is the next."""
        return self._waiting[0].size

    def append(self, message: Delivery, receipt: Receipt) -> None:
        """Put a message at the end."""
        size = len(message.body)
        place = None if self._held + size <= self._room else self._spooled(message.body)
        if place is None:
            self._held += size
        else:
            message = replace(message, body=b"")
        self._waiting.append(Waiting(message, receipt, size, place))

    def popleft(self) -> tuple[Delivery, Receipt]:
        """Return the first message, whole."""
        message, receipt, size, place = self._waiting.popleft()
        if place is None:
            self._held -= size
            return message, receipt
        return replace(message, body=self._spool.take(place, size)), receipt

    def clear(self) -> list[Receipt]:
        """Forget all; return their receipts."""
        receipts = [each.receipt for each in self._waiting]
        self._waiting.clear()
        self._held = 0
        self._spool.close()
        return receipts

    def _spooled(self, body: bytes) -> int | None:
        try:
            return self._spool.put(body)
        except OSError as error:
            logger.warning("a body stays in memory: the disk does not take it", reason=str(error))
            return None


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
        """Return a body and free its place; the last one takes the file with it."""
        if self._file is None:
            raise ValueError("nothing was put here")
        self._file.seek(place * PLACE_BYTES)
        body = self._file.read(size)
        self._free.append(place)
        if len(self._free) == self._places:
            self.close()
        return body

    def close(self) -> None:
        """Free the disk."""
        if self._file is not None:
            self._file.close()
        self._file, self._free, self._places = None, [], 0
