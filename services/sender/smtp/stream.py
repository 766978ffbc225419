"""The asyncio edge: octets out and replies in, over a connection that is open.

It knows nothing of SMTP but the form of replies. It takes the transport over from the library
that has opened it, which waits for one reply at a time only.
"""

import asyncio
import math
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

MAX_UNREAD = 256  # replies; the longest group of commands is for 100 recipients


LINE_OCTETS = 2048  # kept of a line; RFC 5321 4.5.3.1.5 allows 512
TEXT_OCTETS = 16_384  # kept of a reply
REPLY_OCTETS = 262_144  # read of a reply before it is given up

CODE_DIGITS = 3
# Inside a reply, where a text may begin with a number, another code is one that RFC 5321 4.2 has.
_OTHER_CODE = re.compile(rb"[2-5][0-5]\d(?=[ \t-]|$)")


class MalformedReply(ValueError):
    """These octets are not SMTP, or more than anybody needs to say."""


class ProtocolViolation(ConnectionError):
    """What the server says cannot be read, or is too much."""


class RawReply(NamedTuple):
    """One whole reply; its text has a line for each of its lines."""

    code: int
    text: str


class ReplyParser:
    """Puts replies together from what arrives."""

    def __init__(self) -> None:
        self._rest = b""  # the line that has not ended yet, as far as it is kept
        self._code = b""  # of the reply that has not ended yet
        self._lines: list[bytes] = []  # of its text
        self._kept = 0  # octets of them
        self._octets = 0  # that have been read since the last reply

    def feed(self, data: bytes) -> Iterator[RawReply]:
        """Yield the replies that end in `data`. Raises Garbled, after those that came before.

        A reply that does not end within REPLY_OCTETS ends there; what follows it is garbled.
        """
        self._octets += len(data)
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:LINE_OCTETS]
        for line in lines:
            if self._ends_with(line[:LINE_OCTETS].rstrip()):
                yield self._whole()
        if self._octets > REPLY_OCTETS:
            yield from self.end()
            raise MalformedReply("a reply without end")

    def end(self) -> Iterator[RawReply]:
        """Yield the reply that has begun when nothing more will come, if its code is known.

        All lines of a reply have the same code (RFC 5321 4.2.1), so its first line tells it.
        """
        rest, self._rest = self._rest.rstrip(), b""
        if self._code or self._is_coded(rest):
            self._ends_with(rest)
            yield self._whole()

    @property
    def begun(self) -> bool:
        """Whether there is part of a reply, or of a line."""
        return bool(self._code or self._rest.strip())

    def _ends_with(self, line: bytes) -> bool:
        """Add a line, and return whether the reply ends with it."""
        if not line:
            return False
        coded = self._is_coded(line)
        if not coded and not self._code:
            self._rest = b""
            raise MalformedReply("a line without a code")
        text = line[4:].strip() if coded else line.strip()
        if self._kept + len(text) <= TEXT_OCTETS:
            # An enhanced code is looked for at the beginning of the text: that of the code.
            leads = coded and not line.startswith(self._code)
            self._lines.insert(0 if leads else len(self._lines), text)
            # A line costs its code and its end too: there may be many that are empty.
            self._kept += len(text) + len(b"250 \r\n")
        if coded:
            self._code = line[:3]
        return coded and line[3:4] != b"-"

    def _is_coded(self, line: bytes) -> bool:
        if self._code and not line.startswith(self._code):
            return _OTHER_CODE.match(line) is not None
        return line[:3].isdigit() and len(line) >= CODE_DIGITS and not line[3:4].isdigit()

    def _whole(self) -> RawReply:
        code, lines = self._code, self._lines
        self._code, self._lines, self._kept, self._octets = b"", [], 0, 0
        return RawReply(int(code), b"\n".join(lines).decode(errors="surrogateescape"))


class ResettableTimer:
    """Calls `ring` once the time that it is set to has come, in the loop's time.

    A timer for each reply would cost as much as reading it. The one that runs is left alone when
    the time is put off or cleared, and looks again when it goes off.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ring = ring
        self._due = self._goes_off = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, due: float) -> None:
        """Ring at `due`, and not when it was set to before."""
        self._due = due
        if due < self._goes_off:
            self.stop()
            self._due = self._goes_off = due
            self._timer = self._loop.call_at(due, self._look)

    def clear(self) -> None:
        """Do not ring until it is set again."""
        self._due = math.inf

    def stop(self) -> None:
        """Clear it and let go of the loop."""
        self._due = self._goes_off = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        due = self._due
        self.stop()
        if due <= self._loop.time():
            self._ring()
        elif due < math.inf:
            self.set(due)


class SmtpStream(asyncio.Protocol):
    """A transport, the replies that have come over it, and how it ended."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._reader = ReplyParser()
        self._answers: deque[RawReply] = deque()
        self._ended: ConnectionError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._alarm = ResettableTimer(self._late)
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

    async def answer(self, seconds: float, until: float = math.inf) -> RawReply:
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

    def take(self) -> RawReply | None:
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
        except MalformedReply as error:
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
        self._end(ProtocolViolation(why))
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
