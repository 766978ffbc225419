"""The looks at queues and sums that the console takes by itself, whether or not a page is open."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from services.console.context import Missing, PageContext, explained, tried
from services.console.queues import DELAYS, PURPOSES, SHARDS, QueueHistory
from services.console.relays import RelayHistory
from services.console.traffic import TrafficHistory, span
from shared import dead_letter
from shared.contracts import (
    Category,
    ContentTypesListed,
    CountEmails,
    DescribeRelays,
    EmailsCounted,
    ListContentTypes,
    ListWebhooks,
    RelaysDescribed,
    WebhooksListed,
)
from shared.errors import NoAnswer, Unavailable

STOPPED_SAMPLE_SECONDS = 10.0  # between two looks at endpoints, and at content types
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
    failing_webhooks: WebhooksListed | Missing | None = None  # None before the first look
    paused_content: ContentTypesListed | Missing | None = None

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

    async def look_at_webhooks(self) -> None:
        """Ask for a page of the endpoints that fail, or were disabled since they failed."""
        question = ListWebhooks(id=self.context.new_id(), failing=True)
        self.failing_webhooks = await tried(self.context.ask(question, WebhooksListed))

    async def look_at_content(self) -> None:
        """Ask for a page of the content types that are paused."""
        question = ListContentTypes(id=self.context.new_id(), paused=True)
        self.paused_content = await tried(self.context.ask(question, ContentTypesListed))
