"""Pure: header lines of a mail, in ASCII and within 998 octets whatever they hold.

Nothing here trusts its input: a value that is not plain printable ASCII becomes encoded words
(RFC 2047), so no control character can end a line.
"""

import base64
import re
from urllib.parse import quote

from shared import address
from shared.header import MAX_LINE

_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # printable ASCII that no reader would strip
_PHRASE = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(?: [\w!#$%&'*+/=?^`{|}~-]+)*", re.ASCII)
_FOLD = "\r\n "
MAX_NAME = 60  # ASCII characters of a display name that stay on the address's line
# An encoded word has at most 75 characters (RFC 2047 2), `=?utf-8?b?` and `?=` among them.
WORD_OCTETS = 45


def unstructured(name: str, text: str) -> str:
    """Give a header whose value is free text, such as a subject."""
    fits = len(f"{name}: {text}") <= MAX_LINE
    return f"{name}: {text if fits and _is_plain(text) else _encoded(text)}\r\n"


def mailboxes(name: str, *values: str) -> str:
    """Give a header with canonical mailboxes, one a line; an address is written as it is."""
    return f"{name}: {f',{_FOLD}'.join(map(_mailbox, values))}\r\n"


def custom(name: str, value: str) -> str:
    """Give a header that a caller has set.

    Links go out as they are, on one line: who unsubscribes looks for no encoded words. Message
    ids, of which there may be many, have a line each.
    """
    if name == "List-Id":
        phrase, identifier = address.split_mailbox(value)
        return f"{name}: {_phrase(phrase) + ' ' if phrase else ''}<{identifier}>\r\n"
    if name in {"References", "In-Reply-To"} and _is_plain(value):
        return f"{name}: {_FOLD.join(value.split())}\r\n"
    return unstructured(name, value)


def parameter(name: str, value: str) -> str:
    """Give a parameter of a header, on a line of its own, in any Unicode (RFC 2231 4).

    Not cut into numbered pieces, which some readers cannot put together: at 255 octets, the most
    that a file's name has, it fits one line.
    """
    if _is_plain(value):
        return f";{_FOLD}{name}={_quoted(value)}"
    return f";{_FOLD}{name}*=utf-8''{quote(value, safe='')}"


def _mailbox(value: str) -> str:
    name, bare = address.split_mailbox(value)
    return f"{_phrase(name)} <{bare}>" if name else bare


def _phrase(name: str) -> str:
    if len(name) > MAX_NAME or not _is_plain(name):
        return _encoded(name)
    if _PHRASE.fullmatch(name):
        return name
    return _quoted(name)


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _is_plain(text: str) -> bool:
    return "=?" not in text and _PLAIN.fullmatch(text) is not None


def _encoded(text: str) -> str:
    return _FOLD.join(f"=?utf-8?b?{base64.b64encode(word).decode()}?=" for word in _words(text))


def _words(text: str) -> list[bytes]:
    """Cut `text` into pieces of at most WORD_OCTETS; a character is never cut (RFC 2047 5)."""
    words: list[bytes] = []
    for character in text:
        octets = character.encode()
        if words and len(words[-1]) + len(octets) <= WORD_OCTETS:
            words[-1] += octets
        else:
            words.append(octets)
    return words
