"""The answers to an operator's question about relays."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.sender import metrics
from shared.contracts import (
    Category,
    Contract,
    DescribeRelays,
    Latency,
    LatencyStep,
    RelaysDescribed,
    RelayState,
)


@dataclass(frozen=True, slots=True)
class RelayHandlers:
    """Answers with the state of the relays in this process, which `name` identifies."""

    states: Callable[[], Sequence[RelayState]]
    name: str
    started_at: datetime

    async def on_describe_relays(self, question: DescribeRelays) -> Sequence[Contract]:
        """Answer with all relays and the times of mails. Changes nothing."""
        latencies = tuple(
            Latency(
                category=Category(category),
                steps=tuple(
                    LatencyStep(seconds=None if math.isinf(bound) else bound, count=count)
                    for bound, count in steps
                ),
            )
            for category, steps in metrics.latencies()
        )
        return [
            RelaysDescribed(
                id=question.id,
                sender=self.name,
                started_at=self.started_at,
                relays=tuple(self.states()),
                latencies=latencies,
            )
        ]
