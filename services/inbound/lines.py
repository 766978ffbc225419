"""The octets of a session: lines that end in CRLF, and mails that end in a dot."""

import asyncio
from collections.abc import Callable
from typing import Any

MAIL_END = b"\r\n.\r\n"


class CrlfReader:
    """A reader whose lines end in CRLF alone (RFC 5321 2.3.8); the rest is the reader's."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._inner = reader

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- all else that a reader has
        return getattr(self._inner, name)

    async def readuntil(self, separator: bytes = b"\r\n") -> bytes:
        """Return the octets up to a separator. Raises LimitOverrunError."""
        return await self._inner.readuntil(separator)

    @property
    def has_more(self) -> bool:
        """Whether octets were received that nothing has read yet."""
        return bool(self._inner._buffer)  # type: ignore[attr-defined]  # noqa: SLF001 -- as aiosmtpd

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        """Pause and resume another transport from now on, as after STARTTLS."""
        self._inner._transport = transport  # type: ignore[attr-defined]  # noqa: SLF001 -- the same

    async def read_mail(self, add: Callable[[bytes], None]) -> None:
        """Pass a mail on in pieces, as it is on the wire, with a CRLF before its first line.

        Nothing of the mail must have been received yet.
        """
        self._inner.feed_data(b"\r\n")  # the separator then also ends an empty mail
        while True:
            try:
                add(await self._inner.readuntil(MAIL_END))
            except asyncio.LimitOverrunError as over:
                add(await self._inner.read(over.consumed))
            else:
                return


def unstuffed(octets: bytes) -> bytes:
    """Return a mail, or its beginning, that `read_mail` has passed on, without dot stuffing."""
    end = -len(b".\r\n") if octets.endswith(MAIL_END) else len(octets)
    return octets[:end].replace(b"\r\n.", b"\r\n")[len(b"\r\n") :]
