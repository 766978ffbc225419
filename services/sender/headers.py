"""Pure: header lines of a mail, in ASCII and within 998 octets whatever they hold.

Nothing here trusts its input: a value that is not plain printable ASCII becomes encoded words
(RFC 2047), so no control character can end a line.
"""

import base64
import re

from shared import address

_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # printable ASCII that no reader would strip
_PHRASE = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(?: [\w!#$%&'*+/=?^`{|}~-]+)*", re.ASCII)
_FOLD = "\r\n "
MAX_LINE = 998  # octets without CRLF (RFC 5322 2.1.1)
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


def _mailbox(value: str) -> str:
    name, bare = address.split_mailbox(value)
    return f"{_phrase(name)} <{bare}>" if name else bare


def _phrase(name: str) -> str:
    if len(name) > MAX_NAME or not _is_plain(name):
        return _encoded(name)
    if _PHRASE.fullmatch(name):
        return name
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'


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
