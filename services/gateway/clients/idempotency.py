"""Pure: requests that may be sent again (draft-ietf-httpapi-idempotency-key-header)."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from services.gateway.api.problem import MALFORMED, Problem

HEADER = "Idempotency-Key"
MAX_KEY_CHARS = 255


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """Which request a key stands for: the same key of another client or path is another one."""

    client: str
    path: str
    key: str


def read(headers: Sequence[str]) -> str | None:
    """Give the key of a request, None when it has none. Raises Problem.

    The draft wants a string in quotes (RFC 9651 3.3.3), most clients send it bare: both are taken.
    """
    if not headers:
        return None
    key = headers[0].strip(" ")
    if key.startswith('"') and key.endswith('"'):
        key = key[1:-1]
    one = len(headers) == 1 and 0 < len(key) <= MAX_KEY_CHARS
    if not one or not key.isascii() or not key.isprintable():
        raise Problem(
            MALFORMED, f"{HEADER} must be one of 1 to {MAX_KEY_CHARS} printable ASCII characters."
        )
    return key


def fingerprint(secret: bytes, body: bytes) -> bytes:
    """Give what tells whether a body is the same.

    It is kept, so it is keyed: a body may hold a code, which a plain hash would give away to
    whoever tries all of them.
    """
    return hmac.digest(secret, b"a body\x00" + body, hashlib.sha256)


def derived(*parts: str) -> str:
    """Give the id that some parts without NUL always have."""
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:32]
