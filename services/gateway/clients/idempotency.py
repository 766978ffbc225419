"""Pure: requests that may be sent again (draft-ietf-httpapi-idempotency-key-header)."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.gateway.api.problem import MALFORMED, Problem

HEADER = "Idempotency-Key"
MAX_KEY_CHARS = 256


@dataclass(frozen=True, slots=True)
class RequestStamp:
    """The id and the time that the gateway gives a request; a repeat has those of the first."""

    id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key as it stands for one request; with another client or path it stands for another."""

    client: str
    path: str
    key: str


@dataclass(frozen=True, slots=True)
class Hold:
    """A key that one request holds; or else the seconds for which another one does at most."""

    until: int  # by the database's clock, in milliseconds since 1970
    wait_seconds: float = 0.0


def read_key(headers: Sequence[str]) -> str | None:
    """Return the key of a request, None when it has none. Raises Problem.

    The draft asks for a string in quotes (RFC 9651 3.3.3). Most clients send it bare, so both
    forms are read.
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
    """Return a keyed hash of a body, the same for the same body.

    It is stored. A plain hash would reveal a code in the body to a reader of the database, who
    could hash all codes and compare.
    """
    return hmac.digest(secret, b"a body\x00" + body, hashlib.sha256)


def derived_id(*parts: str) -> str:
    """Return the id that some parts without NUL always have."""
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:32]
