"""Events to count: made up, of so many domains, each as likely as the others.

Real domains are not: most events are of a few of them, whose rows are at hand. This is the worst.
"""

import random
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

from services.classifier.evidence import Observation, observe
from services.classifier.rule import Mode
from shared.contracts import FeedbackReported, Kind, Sighting

_START = datetime(2026, 1, 1, tzinfo=UTC)
_BOUNCES = 0.01  # of all events


def domain(number: int) -> str:
    """Name a domain."""
    return f"domain{number:07d}.example"


def sightings(domains: int, seed: int = 0, mode: Mode = Mode.COUNTS) -> Iterator[Sighting]:
    """Give events without an end, always the same of domains, each time with new ids.

    In the mode `evidence` each is of another mail to another recipient.
    """
    chance, run = random.Random(seed), secrets.token_hex(4)  # noqa: S311 -- no secret
    for number in count():
        kind = Kind.BOUNCED if chance.random() < _BOUNCES else Kind.DELIVERED
        name, mailed = domain(chance.randrange(domains)), mode is Mode.EVIDENCE
        yield Sighting.model_construct(
            id=f"{run}-{number}",
            domain=name,
            kind=kind,
            at=_START + timedelta(milliseconds=number),
            recipient=f"user{number}@{name}" if mailed else None,
            email_id=f"m-{run}-{number}" if mailed else None,
        )


def report(some: Sequence[Sighting]) -> FeedbackReported:
    """Put events into one message."""
    return FeedbackReported.model_construct(
        id=f"r-{some[0].id}", at=some[0].at, client="bench", sightings=tuple(some)
    )


def observations(some: Sequence[Sighting]) -> Sequence[Observation]:
    """Give what the classifier's store takes."""
    return list(observe(report(some)))
