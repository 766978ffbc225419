"""Pure: SMTP replies out of octets, however the network has cut them."""

from collections.abc import Iterator
from typing import NamedTuple

LINE_OCTETS = 2048  # RFC 5321 4.5.3.1.5 allows 512; some servers explain themselves at length
REPLY_LINES = 128
REPLY_OCTETS = 65_536


class Garbled(ValueError):
    """These octets are not SMTP, or more than anybody needs to say."""


class Answer(NamedTuple):
    """One whole reply; its text has a line for each of its lines."""

    code: int
    text: str


class Reader:
    """Puts replies together from what arrives."""

    def __init__(self) -> None:
        self._rest = b""  # the line that has not ended yet
        self._lines: list[bytes] = []  # of the reply that has not ended yet
        self._octets = 0

    def feed(self, data: bytes) -> Iterator[Answer]:
        """Give the replies that end in `data`. Raises Garbled, after those that came before."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)
            if line[3:4] != b"-":
                yield self._whole()
        if len(self._rest) > LINE_OCTETS:
            raise Garbled("a line without end")

    def _take(self, line: bytes) -> None:
        if not line[:3].isdigit() or len(line) < 3:  # noqa: PLR2004 -- RFC 5321 4.2
            raise Garbled("a line without a code")
        if self._lines and line[:3] != self._lines[0][:3]:
            raise Garbled("a reply with two codes")
        self._lines.append(line)
        self._octets += len(line)
        too_much = self._octets > REPLY_OCTETS or len(self._lines) > REPLY_LINES
        if too_much or len(line) > LINE_OCTETS:
            raise Garbled("a reply without end")

    def _whole(self) -> Answer:
        lines, self._lines, self._octets = self._lines, [], 0
        text = b"\n".join([line[4:].strip() for line in lines])
        return Answer(int(lines[0][:3]), text.decode(errors="surrogateescape"))
