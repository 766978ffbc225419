"""Encryption of content that crosses the broker (AES-256-GCM), and keyed hashes of addresses."""

import base64
import hashlib
import hmac
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32  # AES-256
NONCE_BYTES = 12  # NIST SP 800-38D 8.2.2: 96 random bits, good for 2^32 messages a key
KEY_ID_BYTES = 4
_KEYS = f"must be {2 * KEY_BYTES} hex digits; several keys, the newest first, with commas between"


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
        raise ValueError(_KEYS) from None
    if any(len(key) != KEY_BYTES for key in keys):
        raise ValueError(_KEYS)
    return keys


def check_keys(text: str) -> str:
    """Return the text of keys that `read_keys` can read. Raises ValueError, without the keys."""
    read_keys(text)
    return text


def check_one_key(text: str) -> str:
    """Return the text of a key that `read_one_key` can read. Raises ValueError, without the key."""
    read_one_key(text)
    return text


def key_id(key: bytes) -> bytes:
    """Return an id of a key, which does not reveal it."""
    return hashlib.sha256(b"postrider key id" + key).digest()[:KEY_ID_BYTES]


class AddressHasher:
    """Hashes addresses (HMAC-SHA256), so that a list can know one without holding it.

    All spellings of an address have one hash: the domain is canonical, as contracts make it, and
    nearly every server ignores the case of the local part.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read a key of 32 bytes as hex. Raises ValueError, without the key."""
        return cls(read_one_key(text))

    def hash(self, email: str) -> str:
        """Return the hash of an address, 64 hex digits."""
        return hmac.digest(self._key, fold(email).encode(), "sha256").hex()


def fold(email: str) -> str:
    """Return a canonical address in lower case, by which all its spellings are found."""
    return email.lower()


def read_one_key(text: str) -> bytes:
    """Read a key that cannot be rotated, 32 bytes as hex. Raises ValueError, without the key."""
    key, *others = read_keys(text)
    if others:
        raise ValueError("must be one key: the hashes of another would not be found")
    return key
