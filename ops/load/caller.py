"""An HTTP connection on the bare protocol, one request at a time.

A client library costs as much as the server that it would put under load.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

from yarl import URL

_HEAD_END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `head` is the status line and the header fields as they came."""

    status: int
    head: bytes
    body: bytes


def request(
    method: str, url: URL, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> bytes:
    """Give the octets of a request. Nothing is escaped in `headers`: they are the caller's own."""
    fields = {"Host": url.authority, **(headers or {}), "Content-Length": str(len(body))}
    lines = [f"{method} {url.raw_path_qs} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Caller(asyncio.Protocol):
    """One connection. Made by `connect`; a second request must wait for the first one's answer."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def connect(cls, url: URL) -> Self:
        """Connect to the server of a URL. Raises OSError."""
        loop = asyncio.get_running_loop()
        host, port = url.host or "", url.port or 0
        secure = True if url.scheme == "https" else None
        _, caller = await loop.create_connection(cls, host, port, ssl=secure)
        return caller

    async def ask(self, octets: bytes) -> Answer:
        """Send a request and give its answer.

        Raises ConnectionError when there is none: the server may have done what was asked. After
        that, or when cancelled here, the connection can only be closed.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._received.clear()
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(octets)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.close()  # the answer, when it comes, would be taken for that of the next request
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; whoever waits is told that there is no answer."""
        self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("no answer"))

    def data_received(self, data: bytes) -> None:
        """Give on an answer that is complete."""
        self._received += data
        try:
            answer = complete(self._received)
        except ValueError as error:
            self._fail(ConnectionAbortedError(str(error)))
            self.close()
            return
        if answer is not None and self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _fail(self, error: OSError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def complete(received: bytes | bytearray) -> Answer | None:
    """Read an answer once all of it is there, else None.

    Raises ValueError for one that tells no status or no length.
    """
    head_end = received.find(_HEAD_END)
    if head_end < 0:
        return None
    length, status = _LENGTH.search(received, 0, head_end), _STATUS.match(received)
    if length is None or status is None:
        raise ValueError("an answer without a status or a length")
    begin = head_end + len(_HEAD_END)
    if len(received) < begin + int(length[1]):
        return None
    body = bytes(received[begin : begin + int(length[1])])
    return Answer(int(status[1]), bytes(received[:head_end]), body)
