"""Encryption of content that crosses the broker (AES-256-GCM)."""

import base64
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32  # AES-256
NONCE_BYTES = 12  # NIST SP 800-38D 8.2.2: 96 random bits, good for 2^32 messages a key
KEY_ID_BYTES = 4


class Sealer:
    """Seals with the first of its keys and opens with any, so that keys can be rotated."""

    def __init__(self, keys: Sequence[bytes], random: Callable[[int], bytes] = os.urandom) -> None:
        self._keys: Mapping[bytes, AESGCM] = {key_id(key): AESGCM(key) for key in keys}
        self._newest = key_id(keys[0])
        self._random = random

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read keys of 32 bytes as hex, the newest first, separated by commas.

        Raises ValueError.
        """
        return cls(read_keys(text))

    def seal(self, content: bytes, context: str) -> str:
        """Encrypt `content`; `open` needs the same `context`, such as the message's id."""
        nonce = self._random(NONCE_BYTES)
        sealed = self._keys[self._newest].encrypt(nonce, content, context.encode())
        return base64.urlsafe_b64encode(self._newest + nonce + sealed).decode()

    def open(self, token: str, context: str) -> bytes:
        """Decrypt a token of `seal`. Raises ValueError if key, context or token is wrong."""
        raw = base64.urlsafe_b64decode(token.encode())
        key, rest = self._keys.get(raw[:KEY_ID_BYTES]), raw[KEY_ID_BYTES:]
        if key is None:
            raise ValueError("sealed with a key that is not here")
        try:
            return key.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], context.encode())
        except InvalidTag:
            raise ValueError("the seal is broken") from None


def read_keys(text: str) -> tuple[bytes, ...]:
    """Read keys of 32 bytes as hex, separated by commas. Raises ValueError, without the keys."""
    try:
        keys = tuple(bytes.fromhex(key) for key in text.split(","))
    except ValueError:
        raise ValueError("must be hex") from None
    if any(len(key) != KEY_BYTES for key in keys):
        raise ValueError(f"must be keys of {KEY_BYTES} bytes as hex, separated by commas")
    return keys


def key_id(key: bytes) -> bytes:
    """Return an id of a key, which does not reveal it."""
    return hashlib.sha256(b"postrider key id" + key).digest()[:KEY_ID_BYTES]
