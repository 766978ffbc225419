"""The asyncio edge: octets out and replies in, over a connection that is open.

It knows nothing of SMTP but the form of replies. It takes the transport over from the library
that has opened it, which waits for one reply at a time only.
"""

import asyncio
import math
from collections import deque

from services.sender.smtp.reply_parser import Answer, Garbled, Reader
from services.sender.smtp.timer import Alarm

MAX_UNREAD = 256  # replies; the longest group of commands is for 100 recipients


class Strange(ConnectionError):
    """What the server says cannot be read, or is too much."""


class Dialogue(asyncio.Protocol):
    """A transport, the replies that have come over it, and how it ended."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._reader = Reader()
        self._answers: deque[Answer] = deque()
        self._ended: ConnectionError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._late)
        self.unsent = False  # whether part of what was written has not left this process
        # So that `unsent` tells of anything that the kernel has not taken. At 0 asyncio's TLS
        # would pause when there is nothing to send. Behind TLS some of it may wait where this
        # does not see it; then it counts as sent.
        transport.set_write_buffer_limits(high=1)
        transport.set_protocol(self)

    @property
    def open(self) -> bool:
        """Whether the other side can be talked to."""
        return self._ended is None and not self._transport.is_closing()

    @property
    def unread(self) -> bool:
        """Whether there are replies that nobody has asked for yet."""
        return bool(self._answers)

    def write(self, octets: bytes) -> None:
        """Send. Raises ConnectionError when the connection has ended."""
        if not self.open:
            raise self._reason()
        self._transport.write(octets)

    async def drained(self, seconds: float) -> None:
        """Wait until all has left this process, or there is a reply to read.

        Raises ConnectionError, TimeoutError.
        """
        due = self._loop.time() + seconds
        while self._held_up:
            await self._change(due)

    async def answer(self, seconds: float, until: float = math.inf) -> Answer:
        """Return the next reply, in the order of their coming, within `seconds`.

        `until`, in the loop's time, is a second limit. A reply that has begun by then ends the
        connection, and counts by its code. Replies that came before the end can be read after it.
        Raises ConnectionError, TimeoutError.
        """
        if not self._answers:
            due = min(self._loop.time() + seconds, until)
            while not self._answers:
                await self._change(due)
        return self._answers.popleft()

    def take(self) -> Answer | None:
        """Return the next of the replies that have come, if there is one."""
        return self._answers.popleft() if self._answers else None

    def abort(self) -> None:
        """Close without sending what is still waiting to be sent: it might be the final dot."""
        self._alarm.stop()
        self._end(ConnectionError("closed by us"))
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        try:
            self._answers.extend(self._reader.feed(data))
        except Garbled as error:
            self._give_up(str(error))
        if len(self._answers) > MAX_UNREAD:
            self._give_up("more replies than commands")
        self._wake()

    def eof_received(self) -> None:
        """Note that the server has closed; the transport then closes by itself."""
        self._end(ConnectionError("closed by the server"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        self._end(ConnectionError(str(exc) if exc else "connection lost"))

    def pause_writing(self) -> None:
        """Note that something waits to be sent."""
        self.unsent = True

    def resume_writing(self) -> None:
        """Note that all is sent."""
        self.unsent = False
        self._wake()

    @property
    def _held_up(self) -> bool:
        return self.unsent and not self._answers

    async def _change(self, due: float) -> None:
        """Wait for anything to happen, until it is `due` in the loop's time.

        Raises TimeoutError, and ConnectionError when nothing will happen any more.
        """
        if not self.open:
            raise self._reason()
        self._waiter = self._loop.create_future()
        self._alarm.set(due)
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._alarm.clear()

    def _late(self) -> None:
        if self._reader.begun:
            # Its code counts. The rest of it must not be read as the next reply.
            self._give_up("a reply without end")
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TimeoutError())

    def _give_up(self, why: str) -> None:
        self._end(Strange(why))
        self._transport.abort()

    def _end(self, reason: ConnectionError) -> None:
        if self._ended is None:
            self._ended = reason
            # A reply that has begun tells its code, though its end never came.
            self._answers.extend(self._reader.end())
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _reason(self) -> ConnectionError:
        return self._ended or ConnectionError("connection lost")
