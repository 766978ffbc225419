"""Observations for tests."""

from collections.abc import Sequence
from datetime import UTC, datetime

from services.classifier.evidence import Observation
from services.classifier.rule import Requirements, VerdictRule

START = datetime(2030, 1, 1, tzinfo=UTC)
COUNTS = VerdictRule(3)
EVIDENCE = VerdictRule(3, Requirements(recipients=3, undetermined=0.5))


def observation(
    number: int, kind: str = "delivered", domain: str = "a.example", mail: int | None = None
) -> Observation:
    """Return the observation of event `number`, at that second; of mail `number` by default."""
    of = number if mail is None else mail
    at = round(START.timestamp() * 1000) + number * 1000
    return Observation(
        f"key-{number}", domain, kind, at, f"mail-{of}/{domain}", f"user{of}@{domain}"
    )


def deliveries(count: int, domain: str = "a.example") -> Sequence[Observation]:
    """Return the first deliveries to a domain."""
    return [observation(number, domain=domain) for number in range(count)]
