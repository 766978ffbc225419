"""Pure: codes are derived from a challenge and a secret key, and stored nowhere."""

import hashlib
import hmac
import secrets
import unicodedata
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from services.otp.challenge import Challenge, CodeScope, NewChallenge
from shared.runtime.sealing import key_id, read_keys

DIGITS = 6  # about 20 bits, what NIST SP 800-63B 5.1.3.2 asks of such a code
NONCE_BYTES = 16
FINGERPRINT_BYTES = 16  # 128 bits: no two guesses ever have the same
SEPARATORS = ("Zs", "Pd")  # Unicode's spaces and dashes, as keyboards and mail programs put them

# Before what is hashed for the name of a guess. A code is hashed after a nonce of as many random
# bytes, so that none of the two ever is the other.
_GUESS = b"postrider guess\0"

# Stands in for a challenge that is not there, so that its absence takes the same time.
_NONE = Challenge("", CodeScope("", "", ""), bytes(NONCE_BYTES), "", DIGITS, 0, 0, 0)


class CodeGenerator:
    """Derives with the key that a challenge names; new challenges name the first key."""

    def __init__(
        self,
        keys: Sequence[bytes],
        digits: int = DIGITS,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._keys: Mapping[str, bytes] = {key_id(key).hex(): key for key in keys}
        self._newest = key_id(keys[0]).hex()
        self._digits = digits
        self._random = random

    @classmethod
    def from_text(cls, text: str, digits: int = DIGITS) -> Self:
        """Read keys of 32 bytes as hex, the newest first, separated by commas.

        Raises ValueError.
        """
        return cls(read_keys(text), digits)

    @property
    def key_ids(self) -> frozenset[str]:
        """Name the keys that are here; a challenge of any other key is dead."""
        return frozenset(self._keys)

    def new_challenge(self, scope: CodeScope, digits: int | None = None) -> NewChallenge:
        """Draw a new challenge, of so many digits or of as many as the deployment's codes have."""
        name = uuid.UUID(bytes=self._random(16), version=4)
        return NewChallenge(
            id=str(name),
            scope=scope,
            nonce=self._random(NONCE_BYTES),
            key_id=self._newest,
            digits=digits or self._digits,
        )

    def code(self, challenge: Challenge) -> str:
        """Derive the code of a challenge. Raises KeyError when its key is not here."""
        return _derive(self._keys[challenge.key_id], challenge)

    def is_right(self, challenge: Challenge | None, typed: str) -> bool:
        """Compare what was typed with the code of `challenge`; without one it is never right.

        The work does not depend on the answer, nor on whether there is a challenge.
        """
        known = challenge is not None and challenge.key_id in self._keys
        asked = challenge or _NONE
        expected = _derive(self._keys.get(asked.key_id, self._keys[self._newest]), asked)
        given = normalise(typed).encode("ascii", "replace")
        return hmac.compare_digest(expected.encode(), given) and known

    def fingerprints(self, scope: CodeScope, request_id: str, typed: str) -> tuple[str, ...]:
        """Name a guess by what was asked, the newest key's name first.

        The same request with another code is another guess. Without a key nobody can try which
        code it was.
        """
        asked = _bound(*_fields(scope), request_id, normalise(typed))
        return tuple(
            hmac.digest(key, _GUESS + asked, hashlib.sha256)[:FINGERPRINT_BYTES].hex()
            for key in self._keys.values()
        )


def normalise(typed: str) -> str:
    """Drop the spaces and dashes of a typed code. What else is no digit makes it wrong."""
    if typed.isascii() and typed.isdigit():
        return typed
    return "".join(sign for sign in typed if unicodedata.category(sign) not in SEPARATORS)


def truncate(digest: bytes, digits: int) -> str:
    """Give a decimal code of a digest: the dynamic truncation of RFC 4226 5.3."""
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


def _derive(key: bytes, challenge: Challenge) -> str:
    bound = _bound(*_fields(challenge.scope))
    digest = hmac.digest(key, challenge.nonce + bound, hashlib.sha256)
    return truncate(digest, challenge.digits)


def _fields(scope: CodeScope) -> tuple[str, ...]:
    return (scope.purpose, scope.client, scope.email)


def _bound(*fields: str) -> bytes:
    """Join some texts so that none can pass for a part of its neighbour: each after its length."""
    parts = [each.encode("utf-8", "surrogatepass") for each in fields]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
