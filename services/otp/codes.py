"""Pure: codes are derived from a challenge and a secret key, and stored nowhere."""

import hashlib
import hmac
import secrets
import unicodedata
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Self

from services.otp.challenge import Challenge, Draft, Holder
from shared.sealing import key_id, read_keys

NONCE_BYTES = 16
# Part of what is hashed, so that no code is ever right for another purpose.
PURPOSE = "confirm-address"
SEPARATORS = ("Zs", "Pd")  # Unicode's spaces and dashes, as keyboards and mail programs put them

# Stands in for a challenge that is not there, so that its absence takes the same time.
_NONE = Challenge("", Holder("", ""), bytes(NONCE_BYTES), "", 6, datetime.min.replace(tzinfo=UTC))


class Codebook:
    """Derives with the key that a challenge names; new challenges name the first key."""

    def __init__(
        self, keys: Sequence[bytes], random: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._keys: Mapping[str, bytes] = {key_id(key).hex(): key for key in keys}
        self._newest = key_id(keys[0]).hex()
        self._random = random

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read keys of 32 bytes as hex, the newest first, separated by commas.

        Raises ValueError.
        """
        return cls(read_keys(text))

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Name the keys that are here; a challenge of any other key is dead."""
        return tuple(self._keys)

    def draft(self, holder: Holder) -> Draft:
        """Draw a new challenge."""
        name = uuid.UUID(bytes=self._random(16), version=4)
        return Draft(str(name), holder, self._random(NONCE_BYTES), self._newest)

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


def normalise(typed: str) -> str:
    """Drop the spaces and dashes of a typed code. What else is no digit makes it wrong."""
    return "".join(sign for sign in typed if unicodedata.category(sign) not in SEPARATORS)


def truncate(digest: bytes, digits: int) -> str:
    """Give a decimal code of a digest: the dynamic truncation of RFC 4226 5.3."""
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


def _derive(key: bytes, challenge: Challenge) -> str:
    fields = (PURPOSE, challenge.holder.client, challenge.holder.email)
    # With its length before it no field can pass for a part of its neighbour.
    bound = b"".join(len(part).to_bytes(4, "big") + part for part in map(str.encode, fields))
    digest = hmac.digest(key, challenge.nonce + bound, hashlib.sha256)
    return truncate(digest, challenge.digits)
