"""Pure: what a challenge is, whom it is for, and what a deployment grants it.

All times are milliseconds since 1970 by the database's clock.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

# A clock that was put back must not revive what it had ended: what was made later than now is
# dead. Less than this is how far clocks are put right by the way, and kills nothing.
STEP = 60_000


@dataclass(frozen=True, slots=True)
class CodeScope:
    """Whom a code is for: right for this client, purpose and canonical address alone."""

    client: str  # empty for a publisher that names none
    purpose: str
    email: str

    @property
    def recipient(self) -> str:
        """Whose mails and failures are counted: no other spelling of an address starts anew."""
        return self.email.lower()

    @property
    def folded(self) -> "CodeScope":
        """The same for all spellings of an address, which most servers deliver to one mailbox."""
        return replace(self, email=self.recipient)


@dataclass(frozen=True, slots=True)
class CodePolicy:
    """What a deployment grants; `lifetime` and `cooldown` are in milliseconds.

    `tries` is how many guesses a challenge allows, `failures` how many a recipient has in a day.
    """

    lifetime: int
    cooldown: int
    tries: int
    failures: int
    key_ids: AbstractSet[str]  # of the keys that codes can be derived with


@dataclass(frozen=True, slots=True)
class NewChallenge:
    """A challenge that is made if its holder has none alive."""

    id: str
    scope: CodeScope
    nonce: bytes = field(repr=False)
    key_id: str
    digits: int


@dataclass(frozen=True, slots=True)
class Challenge:
    """All that a code is derived from, but for the key."""

    id: str
    scope: CodeScope
    nonce: bytes = field(repr=False)
    key_id: str
    digits: int
    created_at: int
    expires_at: int
    mailed_at: int  # for the last time

    def is_in_time(self, now: int) -> bool:
        """Whether it has begun and not expired."""
        return self.created_at - STEP <= now < self.expires_at
