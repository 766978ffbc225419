"""The looks at queues and sums that the console takes by itself, whether or not a page is open."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from services.console.context import Missing, PageContext, explained
from services.console.queues import DELAYS, PURPOSES, SHARDS, QueueHistory
from services.console.relays import RelayHistory
from services.console.traffic import TrafficHistory, span
from shared import dead_letter
from shared.contracts import (
    Category,
    CountEmails,
    DescribeRelays,
    EmailsCounted,
    RelaysDescribed,
)
from shared.errors import NoAnswer, Unavailable

QUEUES = (
    *PURPOSES,
    *(shard for shards in SHARDS.values() for shard in shards),
    *DELAYS,
    *dead_letter.dead_queues(),
)


@dataclass(slots=True)
class Sampler:
    """Looks at all queues and at the sums of the ledger; `missing_…`: why the last look failed."""

    context: PageContext
    now: Callable[[], datetime]
    queues: QueueHistory = field(default_factory=QueueHistory)
    traffic: TrafficHistory = field(default_factory=TrafficHistory)
    missing_queues: Missing | None = None
    missing_traffic: Missing | None = None
    relays: RelayHistory = field(default_factory=RelayHistory)
    missing_relays: Missing | None = None

    async def look_at_queues(self) -> None:
        """Count what waits."""
        try:
            states = await self.context.broker.queue_states(QUEUES)
        except Unavailable as error:
            self.missing_queues = Missing(explained(error))
            return
        self.queues.add(self.now(), states)
        self.missing_queues = None

    async def look_at_traffic(self) -> None:
        """Ask for the sums of the last day, class by class."""
        now = self.now()
        since, until = span(now)
        try:
            answers = await asyncio.gather(
                *(
                    self.context.ask(
                        CountEmails(
                            id=self.context.new_id(),
                            since=since,
                            until=until,
                            by="hour",
                            category=category,
                        ),
                        EmailsCounted,
                    )
                    for category in Category
                )
            )
        except (NoAnswer, Unavailable) as error:
            self.missing_traffic = Missing(explained(error))
            return
        periods = {each: found.periods for each, found in zip(Category, answers, strict=True)}
        self.traffic.add(now, periods)
        self.missing_traffic = None

    async def look_at_relays(self) -> None:
        """Ask one sender for its relays."""
        question = DescribeRelays(id=self.context.new_id())
        try:
            answer = await self.context.ask(question, RelaysDescribed)
        except (NoAnswer, Unavailable) as error:
            self.missing_relays = Missing(explained(error))
            return
        self.relays.add(self.now(), answer)
        self.missing_relays = None
