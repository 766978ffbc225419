"""Pure: SMTP replies out of octets, however the network has cut them.

What can be read is read, as the code alone decides (RFC 5321 4.2): a text that is too long is cut,
blank lines are passed over, a line without a code inside a reply is part of its text, and of
several codes in one reply that of the last line counts, whose text then comes first.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

LINE_OCTETS = 2048  # kept of a line; RFC 5321 4.5.3.1.5 allows 512
TEXT_OCTETS = 16_384  # kept of a reply
REPLY_OCTETS = 262_144  # read of a reply before it is given up

CODE_DIGITS = 3
# Inside a reply, where a text may begin with a number, another code is one that RFC 5321 4.2 has.
_OTHER_CODE = re.compile(rb"[2-5][0-5]\d(?=[ \t-]|$)")


class Garbled(ValueError):
    """These octets are not SMTP, or more than anybody needs to say."""


class Answer(NamedTuple):
    """One whole reply; its text has a line for each of its lines."""

    code: int
    text: str


class Reader:
    """Puts replies together from what arrives."""

    def __init__(self) -> None:
        self._rest = b""  # the line that has not ended yet, as far as it is kept
        self._code = b""  # of the reply that has not ended yet
        self._lines: list[bytes] = []  # of its text
        self._kept = 0  # octets of them
        self._octets = 0  # that have been read since the last reply

    def feed(self, data: bytes) -> Iterator[Answer]:
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
            raise Garbled("a reply without end")

    def end(self) -> Iterator[Answer]:
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
            raise Garbled("a line without a code")
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

    def _whole(self) -> Answer:
        code, lines = self._code, self._lines
        self._code, self._lines, self._kept, self._octets = b"", [], 0, 0
        return Answer(int(code), b"\n".join(lines).decode(errors="surrogateescape"))
