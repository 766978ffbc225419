"""Pure: what a challenge is, whom it is for, and what a deployment grants it."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a code is for: right for this client and this canonical address alone."""

    client: str  # empty for a publisher that names none
    email: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What a deployment grants every challenge; `lifetime` is in seconds."""

    lifetime: float
    tries: int
    digits: int


@dataclass(frozen=True, slots=True)
class Draft:
    """A challenge that is made if its holder has none alive."""

    id: str
    holder: Holder
    nonce: bytes = field(repr=False)
    key_id: str


@dataclass(frozen=True, slots=True)
class Challenge:
    """All that a code is derived from, but for the key."""

    id: str
    holder: Holder
    nonce: bytes = field(repr=False)
    key_id: str
    digits: int
    expires_at: datetime
