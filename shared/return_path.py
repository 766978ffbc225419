"""Return paths: an address for the reports about one mail to one recipient (VERP), signed.

A return path is `b-<token>@<domain>`. Its token holds the keys of the mail and of the recipient, by
which the ledger finds them, and a day; a MAC proves that a sender made it. It is base32 in lower
case, so that a server that changes the case of letters does no harm, and the local part has 63
octets of the 64 that RFC 5321 4.5.3.1.1 allows.
"""

import base64
import binascii
import hmac
from collections.abc import Sequence
from datetime import date, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple, Self

from shared.contracts.address import domain_of
from shared.runtime import sealing

VALID_DAYS = 30  # a server gives up after 4 or 5 days (RFC 5321 4.5.4.1); complaints come later
PREFIX = "b-"
_EPOCH = date(1970, 1, 1)
_FIRST_KEY_BYTES, _CLIENT_BYTES, _ADDRESS_BYTES = 12, 8, 8
_MAIL_KEY_BYTES = _FIRST_KEY_BYTES + _CLIENT_BYTES
_DAY_BYTES, _MAC_BYTES = 2, 8
_TOKEN_BYTES = _MAIL_KEY_BYTES + _ADDRESS_BYTES + _DAY_BYTES + _MAC_BYTES
_TOKEN_CHARS = 61  # of so many bytes in base32 (RFC 4648 6), without the padding of three
_CONTEXT = b"postrider return path"


def mail_key(email_id: str, client: str | None) -> bytes:
    """Return the key of a mail among those of all clients; mails of one id have one beginning.

    The same id of another client is another mail, as in `services.sender.claims.mail_key`.
    """
    return first_key(email_id) + _owner_key(client or "")


def first_key(email_id: str) -> bytes:
    """Return the beginning of the keys of the mails that have this id, each of another client."""
    return blake2b(email_id.encode(), digest_size=_FIRST_KEY_BYTES).digest()


@lru_cache(maxsize=1024)  # few clients send most mails
def _owner_key(client: str) -> bytes:
    return blake2b(client.encode(), digest_size=_CLIENT_BYTES).digest()


def address_hash(email: str) -> int:
    """Return the number by which an address is looked up, whatever the case of its letters."""
    return text_hash(email.lower())


def text_hash(text: str) -> int:
    """Return the number by which a text is looked up."""
    digest = blake2b(text.encode(), digest_size=_ADDRESS_BYTES).digest()
    return int.from_bytes(digest, signed=True)


class ReturnedMail(NamedTuple):
    """The mail and the recipient of a return path: a `mail_key` and an `address_hash`.

    `age_days` counts from the day of its signature, and is -1 where the clocks differ.
    """

    mail_key: bytes
    address_hash: int
    age_days: int


class ReturnPaths:
    """Makes the return paths of a domain, and reads them.

    It signs with the first of its keys and takes the signatures of any, so that keys can be
    rotated.
    """

    def __init__(self, domain: str, keys: Sequence[bytes]) -> None:
        self.domain = domain
        self._keys = keys

    @classmethod
    def from_text(cls, domain: str, keys: str) -> Self:
        """Read keys of 32 bytes as hex, the newest first, separated by commas.

        Raises ValueError.
        """
        return cls(domain, sealing.read_keys(keys))

    def of(self, email_id: str, client: str | None, recipient: str, today: date) -> str:
        """Return the return path of a mail to a recipient, the same all day."""
        address = address_hash(recipient).to_bytes(_ADDRESS_BYTES, signed=True)
        content = mail_key(email_id, client) + address + _day(today).to_bytes(_DAY_BYTES)
        token = base64.b32encode(content + _mac(self._keys[0], content))
        return f"{PREFIX}{token.decode().rstrip('=').lower()}@{self.domain}"

    def read(self, address: str, today: date) -> ReturnedMail | None:
        """Return the mail and recipient of an address.

        Return None for one that no sender has made, for one of another domain, and for one that is
        older than VALID_DAYS.
        """
        local, domain = address.rpartition("@")[0].lower(), domain_of(address).lower()
        if domain != self.domain or not local.startswith(PREFIX):
            return None
        content = self._opened(local.removeprefix(PREFIX))
        if content is None:
            return None
        key, rest = content[:_MAIL_KEY_BYTES], content[_MAIL_KEY_BYTES:]
        age = _day(today) - int.from_bytes(rest[_ADDRESS_BYTES:])
        # The clocks of two machines may be on both sides of midnight.
        if not -1 <= age <= VALID_DAYS:
            return None
        return ReturnedMail(key, int.from_bytes(rest[:_ADDRESS_BYTES], signed=True), age)

    def _opened(self, token: str) -> bytes | None:
        """Return the content of a token, None unless its MAC is right."""
        if len(token) != _TOKEN_CHARS or not token.isascii():
            return None
        try:
            raw = base64.b32decode(token.upper() + "===")
        except binascii.Error:
            return None
        content, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        right = [hmac.compare_digest(_mac(key, content), mac) for key in self._keys]
        return content if len(raw) == _TOKEN_BYTES and any(right) else None


def _mac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, _CONTEXT + content, "sha256")[:_MAC_BYTES]


def _day(at: date) -> int:
    return (at - _EPOCH) // timedelta(days=1)
