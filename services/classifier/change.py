"""Pure: a change of a verdict, and what is said of it."""

import uuid
from datetime import datetime
from typing import NamedTuple

from shared.contracts import DomainClassified, Verdict

_IDS = uuid.UUID("9c3c1f57-52bb-5c0a-9d43-6a1c5c1f0d52")  # a name space of our own (RFC 9562 5.5)


class Change(NamedTuple):
    """The verdict on a domain that an event has brought about, and when; `key` is the event's."""

    domain: str
    status: Verdict
    at: datetime
    key: str


def announce(change: Change) -> DomainClassified:
    """Say that the verdict on a domain has changed; every time with the same id."""
    return DomainClassified(
        id=str(uuid.uuid5(_IDS, f"domain.classified/{change.key}")),
        at=change.at,
        domain=change.domain,
        status=change.status,
    )
