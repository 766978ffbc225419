"""Header lines of a mail, in ASCII and within 998 octets for any value.

No input is trusted: a value that is not plain printable ASCII becomes encoded words
(RFC 2047), so no control character can end a line.
"""

import base64
import re
from urllib.parse import quote

from shared.contracts import address
from shared.contracts.header import MAX_LINE_CHARS

_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # printable ASCII without a blank at either end
_PHRASE = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(?: [\w!#$%&'*+/=?^`{|}~-]+)*", re.ASCII)
_FOLD = "\r\n "
MAX_NAME_CHARS = 60  # ASCII characters of a display name that stay on the address's line
MAX_ENCODED_LINE_CHARS = 76  # characters of a line that has an encoded word (RFC 2047 2)
_ENCODED = "=?utf-8?b?{}?="


def unstructured(name: str, text: str) -> str:
    """Return a header whose value is free text, such as a subject."""
    if len(f"{name}: {text}") <= MAX_LINE_CHARS and _is_plain(text):
        return f"{name}: {text}\r\n"
    return f"{name}:{_encoded(text, len(name) + 1)}\r\n"


def mailboxes(name: str, *values: str) -> str:
    """Return a header with canonical mailboxes, one a line; an address is never encoded."""
    first, *others = values
    lines = [_mailbox(first, len(name) + 1), *(_mailbox(each, 0) for each in others)]
    return f"{name}:" + ",\r\n".join(lines) + "\r\n"


def custom(name: str, value: str) -> str:
    """Return a header of the command.

    Links are never encoded or folded: a program that unsubscribes reads no encoded words. Each of
    several message ids has a line of its own.
    """
    if name == "List-Id":
        phrase, identifier = address.split_mailbox(value)
        return f"{name}:{_named(phrase, identifier, len(name) + 1)}\r\n"
    if name in {"References", "In-Reply-To"} and _is_plain(value):
        return f"{name}: {_FOLD.join(value.split())}\r\n"
    return unstructured(name, value)


def parameter(name: str, value: str) -> str:
    """Return a parameter of a header, on a line of its own, in any Unicode (RFC 2231 4).

    It is not cut into numbered pieces, which some mail programs cannot join: the longest file name
    of 255 octets fits one line.
    """
    if _is_plain(value):
        return f";{_FOLD}{name}={_quoted(value)}"
    return f";{_FOLD}{name}*=utf-8''{quote(value, safe='')}"


def _mailbox(value: str, column: int) -> str:
    name, bare = address.split_mailbox(value)
    return _named(name, bare, column) if name else f" {bare}"


def _named(name: str, bare: str, column: int) -> str:
    """Return a blank, the name if any, and an address or id in angle brackets.

    `column` is the length of the line before. The address has a line of its own where it, with a
    comma behind it, would make a line with an encoded word too long.
    """
    if not name:
        return f" <{bare}>"
    if len(name) <= MAX_NAME_CHARS and _is_plain(name):
        return f" {name if _PHRASE.fullmatch(name) else _quoted(name)} <{bare}>"
    words = _encoded(name, column)
    *folded, last = words.split("\r\n")
    used = len(last) + (0 if folded else column)
    fits = used + len(f" <{bare}>,") <= MAX_ENCODED_LINE_CHARS
    return f"{words}{' ' if fits else _FOLD}<{bare}>"


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _is_plain(text: str) -> bool:
    return "=?" not in text and _PLAIN.fullmatch(text) is not None


def _encoded(text: str, column: int) -> str:
    """Return encoded words, with a blank or a fold before each.

    `column` is the length of the line before the first. No character is split (RFC 2047 5).
    """
    words, room = [b""], _word_octets(column)
    for character in text:
        octets = character.encode()
        if len(words[-1]) + len(octets) > room:
            words.append(b"")
            room = _word_octets(0)
        words[-1] += octets
    first, *others = (base64.b64encode(word).decode() for word in words)
    begin = f" {_ENCODED.format(first)}" if first else ""
    return begin + "".join(_FOLD + _ENCODED.format(each) for each in others)


def _word_octets(column: int) -> int:
    """Return how many octets fit in an encoded word after `column` characters and a blank."""
    characters = MAX_ENCODED_LINE_CHARS - column - len(f" {_ENCODED.format('')}")
    return max(0, characters // 4 * 3)
