"""Pure: challenges, codes derived from them and a secret key and stored nowhere, and fixed codes.

All times are milliseconds since 1970 by the database's clock.
"""

import hashlib
import hmac
import secrets
import unicodedata
import uuid
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Self

from prometheus_client import Counter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared.contracts.codes import MAX_DIGITS, MIN_DIGITS
from shared.contracts.fields import Address, Moment, matching
from shared.runtime.sealing import key_id, read_keys

SECOND_MS = 1000
DIGITS = 6  # about 20 bits, as NIST SP 800-63B 5.1.3.2 asks of such a code
NONCE_BYTES = 16
FINGERPRINT_BYTES = 16  # 128 bits: no two guesses ever have the same
SEPARATORS = ("Zs", "Pd")  # Unicode's spaces and dashes, as keyboards and mail programs put them
# A clock that was put back must not revive a challenge that it had ended, so a challenge made later
# than now is invalid. Usual corrections of a clock are smaller than this, and end none.
MAX_CLOCK_STEP_MS = 60_000

# The prefix of what is hashed into the fingerprint of a guess. A code is hashed after a nonce of
# as many random bytes, so that neither hash ever is the other.
_GUESS = b"postrider guess\0"
MAX_FIXED_CODES = 100  # a longer list is no list of testers

FIXED_ISSUED = Counter(
    "postrider_test_codes_issued", "Codes of OTP_TEST_CODES requested, for which nothing was mailed"
)
FIXED_VERIFIED = Counter("postrider_test_codes_verified", "Codes of OTP_TEST_CODES verified")


@dataclass(frozen=True, slots=True)
class CodeScope:
    """The client, purpose and canonical address that alone a code is valid for."""

    client: str  # empty for a publisher that names none
    purpose: str
    email: str

    @property
    def recipient(self) -> str:
        """The address in lower case: mails and failures of all its spellings are counted as one."""
        return self.email.lower()

    @property
    def folded(self) -> "CodeScope":
        """The scope of all spellings of its address: most servers have one mailbox for them."""
        return replace(self, email=self.recipient)


@dataclass(frozen=True, slots=True)
class CodePolicy:
    """The limits of a challenge; `lifetime` and `cooldown` are in milliseconds.

    `tries` is the number of guesses at one challenge, `failures` of one recipient in a day.
    """

    lifetime: int
    cooldown: int
    tries: int
    failures: int
    key_ids: AbstractSet[str]  # of the keys that codes can be derived with


@dataclass(frozen=True, slots=True)
class NewChallenge:
    """A challenge that is stored only if its scope has none alive."""

    id: str
    scope: CodeScope
    nonce: bytes = field(repr=False)
    key_id: str
    digits: int


@dataclass(frozen=True, slots=True)
class Challenge(NewChallenge):
    """A stored challenge: together with the key, its code can be derived from it."""

    created_at: int
    expires_at: int
    mailed_at: int  # for the last time

    def is_in_time(self, now: int) -> bool:
        """Return whether it has begun and not expired."""
        return self.created_at - MAX_CLOCK_STEP_MS <= now < self.expires_at


# Compared where there is no challenge, so that its absence takes the same time.
_NO_CHALLENGE = Challenge("", CodeScope("", "", ""), bytes(NONCE_BYTES), "", DIGITS, 0, 0, 0)


class CodeGenerator:
    """A generator of codes, by the key that a challenge names; new challenges name the first."""

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
        """Parse keys of 32 bytes as hex, the newest first, separated by commas.

        Raises ValueError.
        """
        return cls(read_keys(text), digits)

    @property
    def key_ids(self) -> frozenset[str]:
        """The ids of its keys; a challenge of any other key is invalid."""
        return frozenset(self._keys)

    def new_challenge(self, scope: CodeScope, digits: int | None = None) -> NewChallenge:
        """Draw a new challenge, of `digits` or of as many as the deployment's codes have."""
        return NewChallenge(
            id=str(uuid.UUID(bytes=self._random(16), version=4)),
            scope=scope,
            nonce=self._random(NONCE_BYTES),
            key_id=self._newest,
            digits=digits or self._digits,
        )

    def code(self, challenge: Challenge) -> str:
        """Derive the code of a challenge. Raises KeyError when its key is not here."""
        return _derive(self._keys[challenge.key_id], challenge)

    def is_right(self, challenge: Challenge | None, typed: str) -> bool:
        """Compare a typed text with the code of `challenge`; without a challenge it is wrong.

        The work does not depend on the answer, nor on whether there is a challenge.
        """
        known = challenge is not None and challenge.key_id in self._keys
        compared = challenge or _NO_CHALLENGE
        expected = _derive(self._keys.get(compared.key_id, self._keys[self._newest]), compared)
        given = normalise(typed).encode("ascii", "replace")
        return hmac.compare_digest(expected.encode(), given) and known

    def fingerprints(self, scope: CodeScope, request_id: str, typed: str) -> tuple[str, ...]:
        """Return a name of a guess by each key, the newest key's first.

        The same request with another code is another guess. Without a key nobody can find out
        by trial which code it was.
        """
        guess = _framed(*_fields(scope), request_id, normalise(typed))
        return tuple(
            hmac.digest(key, _GUESS + guess, hashlib.sha256)[:FINGERPRINT_BYTES].hex()
            for key in self._keys.values()
        )


def normalise(typed: str) -> str:
    """Return a typed code without spaces and dashes; any other sign stays and makes it wrong."""
    if typed.isascii() and typed.isdigit():
        return typed
    return "".join(sign for sign in typed if unicodedata.category(sign) not in SEPARATORS)


def truncate(digest: bytes, digits: int) -> str:
    """Return the decimal code of a digest: the dynamic truncation of RFC 4226 5.3."""
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


def _derive(key: bytes, challenge: Challenge) -> str:
    message = challenge.nonce + _framed(*_fields(challenge.scope))
    return truncate(hmac.digest(key, message, hashlib.sha256), challenge.digits)


def _fields(scope: CodeScope) -> tuple[str, ...]:
    return (scope.purpose, scope.client, scope.email)


def _framed(*fields: str) -> bytes:
    """Join texts, each after its length, so that none passes for a part of its neighbour."""
    parts = [each.encode("utf-8", "surrogatepass") for each in fields]
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


_DIGITS = matching(
    rf"[0-9]{{{MIN_DIGITS},{MAX_DIGITS}}}", f"must be {MIN_DIGITS} to {MAX_DIGITS} digits"
)


class FixedCode(BaseModel):
    """The code of an address, and its end, which has to be given."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    code: Annotated[str, _DIGITS] = Field(repr=False)
    until: Moment


def _check_spellings(codes: Mapping[str, FixedCode]) -> Mapping[str, FixedCode]:
    if len({email.lower() for email in codes}) < len(codes):
        raise ValueError("must have each address once")
    return codes


FixedCodeTable = Annotated[
    Mapping[Address, FixedCode],
    Field(max_length=MAX_FIXED_CODES),
    AfterValidator(_check_spellings),
]


class FixedCodes:
    """The fixed codes by address, in any spelling; times are milliseconds since 1970."""

    def __init__(self, codes: Mapping[str, FixedCode]) -> None:
        self._codes = {email.lower(): code for email, code in codes.items()}

    def has(self, scope: CodeScope, now: int) -> bool:
        """Return whether the code of a scope is fixed now."""
        return self._find(scope, now) is not None

    def is_right(self, scope: CodeScope, typed: str, now: int) -> bool:
        """Compare a typed text with the fixed code of a scope; without one it is wrong."""
        fixed = self._find(scope, now)
        given = normalise(typed).encode("ascii", "replace")
        return fixed is not None and hmac.compare_digest(fixed.code.encode(), given)

    def expired(self, now: datetime) -> Mapping[str, datetime]:
        """Return the end of each address whose code has expired."""
        return {email: each.until for email, each in self._codes.items() if each.until <= now}

    def __len__(self) -> int:
        return len(self._codes)

    def _find(self, scope: CodeScope, now: int) -> FixedCode | None:
        fixed = self._codes.get(scope.recipient)
        if fixed is None or fixed.until.timestamp() * SECOND_MS <= now:
            return None
        return fixed


NO_FIXED_CODES = FixedCodes({})
