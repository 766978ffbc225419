"""A stream of SMTP replies over an open connection: octets out, replies in.

The transport comes from the library that has opened the connection. The library itself waits for
one reply at a time, so it cannot read the replies to a group of commands.
"""

import asyncio
import math
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

MAX_UNREAD_REPLIES = 256  # the longest group of commands is for 100 recipients
MAX_LINE_OCTETS = 2048  # kept of a line; RFC 5321 4.5.3.1.5 allows 512
MAX_TEXT_OCTETS = 16_384  # kept of a reply
MAX_REPLY_OCTETS = 262_144  # read of a reply

CODE_DIGITS = 3
# Inside a reply, where a text may begin with a number, another code is one that RFC 5321 4.2 has.
_OTHER_CODE = re.compile(rb"[2-5][0-5]\d(?=[ \t-]|$)")


class MalformedReply(ValueError):
    """The octets are no SMTP reply, or a longer one than MAX_REPLY_OCTETS."""


class ProtocolViolation(ConnectionError):
    """The server sent something that is no reply, or too many replies."""


class RawReply(NamedTuple):
    """A whole reply; its text has a line for each line of the reply."""

    code: int
    text: str


class ReplyParser:
    """Parses SMTP replies out of octets, however the network has cut them.

    The parser is lenient, because the code alone decides (RFC 5321 4.2). It cuts a text that is
    too long and skips blank lines. A line without a code inside a reply is part of the text. Of
    several codes in one reply the code of the last line counts, and its text comes first.
    """

    def __init__(self) -> None:
        self._rest = b""  # the line that has not ended yet, up to MAX_LINE_OCTETS
        self._code = b""  # of the reply that has not ended yet
        self._lines: list[bytes] = []  # of its text
        self._kept = 0  # octets in `_lines`
        self._octets = 0  # read since the last reply

    def feed(self, data: bytes) -> Iterator[RawReply]:
        """Yield the replies that end in `data`. Raises MalformedReply after the good replies.

        A reply longer than MAX_REPLY_OCTETS ends there; the octets behind it are malformed.
        """
        self._octets += len(data)
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:MAX_LINE_OCTETS]
        for line in lines:
            if self._ends_with(line[:MAX_LINE_OCTETS].rstrip()):
                yield self._whole()
        if self._octets > MAX_REPLY_OCTETS:
            yield from self.end()
            raise MalformedReply("a reply without end")

    def end(self) -> Iterator[RawReply]:
        """Yield the incomplete reply at the end of the connection, if its code is known.

        All lines of a reply have the same code (RFC 5321 4.2.1), so the first line is enough.
        """
        rest, self._rest = self._rest.rstrip(), b""
        if self._code or self._is_coded(rest):
            self._ends_with(rest)
            yield self._whole()

    @property
    def has_partial(self) -> bool:
        """Whether part of a reply, or of a line, has been read."""
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
        if self._kept + len(text) <= MAX_TEXT_OCTETS:
            # An enhanced code is looked for at the beginning of the text: that of the code.
            leads = coded and not line.startswith(self._code)
            self._lines.insert(0 if leads else len(self._lines), text)
            # The code and the line end count too: there may be many empty lines.
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
    """Calls `expire` at a time of the loop, which each reply sets again.

    A loop timer for each reply would cost as much as reading it. So a later time, or none, leaves
    the running loop timer alone, which checks the time when it fires.
    """

    def __init__(self, expire: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._expire = expire
        self._due = self._fires_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, due: float) -> None:
        """Expire at `due` instead of the time before."""
        self._due = due
        if due < self._fires_at:
            self.stop()
            self._due = self._fires_at = due
            self._timer = self._loop.call_at(due, self._fire)

    def clear(self) -> None:
        """Do not expire until `set` is called again."""
        self._due = math.inf

    def stop(self) -> None:
        """Clear the time and cancel the loop timer."""
        self._due = self._fires_at = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        due = self._due
        self.stop()
        if due <= self._loop.time():
            self._expire()
        elif due < math.inf:
            self.set(due)


class SmtpStream(asyncio.Protocol):
    """A transport, the replies that were received over it, and the reason for its end."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._parser = ReplyParser()
        self._replies: deque[RawReply] = deque()
        self._ended: ConnectionError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = ResettableTimer(self._time_out)
        self.unsent = False  # whether part of what was written has not left this process
        # With 1, `unsent` is set for anything that the kernel has not accepted. With 0 asyncio's
        # TLS would pause when there is nothing to send. TLS may hold octets back unseen; those
        # count as sent.
        transport.set_write_buffer_limits(high=1)
        transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        """Whether commands can still be sent."""
        return self._ended is None and not self._transport.is_closing()

    @property
    def has_unread(self) -> bool:
        """Whether a received reply has not been read yet."""
        return bool(self._replies)

    def write(self, octets: bytes) -> None:
        """Send. Raises ConnectionError when the connection has ended."""
        if not self.is_open:
            raise self._reason()
        self._transport.write(octets)

    async def drain(self, seconds: float) -> None:
        """Wait until all has left this process, or there is a reply to read.

        Raises ConnectionError, TimeoutError.
        """
        due = self._loop.time() + seconds
        while self.unsent and not self._replies:
            await self._wait_for_change(due)

    async def read(self, seconds: float, until: float = math.inf) -> RawReply:
        """Return the next reply, in the order of arrival, within `seconds`.

        `until`, in the loop's time, is a second limit. A reply that has only begun by then ends
        the connection, and its code counts. Replies received before the end of the connection can
        be read after it. Raises ConnectionError, TimeoutError.
        """
        if not self._replies:
            due = min(self._loop.time() + seconds, until)
            while not self._replies:
                await self._wait_for_change(due)
        return self._replies.popleft()

    def read_nowait(self) -> RawReply | None:
        """Return the next received reply, None if there is none."""
        return self._replies.popleft() if self._replies else None

    def abort(self) -> None:
        """Close and discard unsent octets: they might be the final dot."""
        self._timer.stop()
        self._end(ConnectionError("closed by us"))
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse the octets."""
        try:
            self._replies.extend(self._parser.feed(data))
        except MalformedReply as error:
            self._fail(str(error))
        if len(self._replies) > MAX_UNREAD_REPLIES:
            self._fail("more replies than commands")
        self._wake()

    def eof_received(self) -> None:
        """Record that the server has closed; the transport then closes by itself."""
        self._end(ConnectionError("closed by the server"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Record the end of the connection."""
        self._end(ConnectionError(str(exc) if exc else "connection lost"))

    def pause_writing(self) -> None:
        """Record that octets wait to be sent."""
        self.unsent = True

    def resume_writing(self) -> None:
        """Record that all octets are sent."""
        self.unsent = False
        self._wake()

    async def _wait_for_change(self, due: float) -> None:
        """Wait for any event, until `due` in the loop's time.

        Raises TimeoutError, and ConnectionError when the connection has ended.
        """
        if not self.is_open:
            raise self._reason()
        self._waiter = self._loop.create_future()
        self._timer.set(due)
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._timer.clear()

    def _time_out(self) -> None:
        if self._parser.has_partial:
            # Its code counts. The rest of it must not be read as the next reply.
            self._fail("a reply without end")
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TimeoutError())

    def _fail(self, why: str) -> None:
        self._end(ProtocolViolation(why))
        self._transport.abort()

    def _end(self, reason: ConnectionError) -> None:
        if self._ended is None:
            self._ended = reason
            # An incomplete reply counts by its code.
            self._replies.extend(self._parser.end())
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _reason(self) -> ConnectionError:
        return self._ended or ConnectionError("connection lost")
