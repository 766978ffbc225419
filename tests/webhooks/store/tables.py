"""The stores of one test, and short ways to fill them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from services.webhooks import attempts
from services.webhooks.messages import Message, message_of
from services.webhooks.store.deliveries import DeliveryStore, Due, Try
from services.webhooks.store.endpoints import EndpointStore
from services.webhooks.store.history import HistoryStore
from services.webhooks.store.upkeep import UpkeepStore
from shared.contracts import (
    Category,
    CreateWebhook,
    EmailDelivered,
    ListWebhookDeliveries,
    Webhook,
)
from shared.runtime.sealing import Sealer
from shared.storage.database import Database
from tests.clock import Clock

LEASE = timedelta(seconds=60)
KEEP_DAYS = 14
MAX_ENDPOINTS = 3
SEALER = Sealer([b"k" * 32])
URL = "https://shop.example/hooks"


def event(clock: Clock, name: str = "e1", **more: Any) -> EmailDelivered:  # noqa: ANN401 -- as the contract has it
    """Return an event of a mail of the client `shop` at the time of the test."""
    fields = {
        "at": datetime.fromtimestamp(clock.seconds, UTC),
        "email_id": "m1",
        "client": "shop",
        "category": Category.TRANSACTIONAL,
        "recipient": "ann@example.org",
        "attempt": 1,
    }
    return EmailDelivered.model_validate({"id": name, **fields, **more})


@dataclass(frozen=True)
class Tables:
    """The stores on one database, at the time of the test."""

    endpoints: EndpointStore
    deliveries: DeliveryStore
    history: HistoryStore
    upkeep: UpkeepStore
    clock: Clock

    @classmethod
    def of(cls, database: Database, clock: Clock) -> "Tables":
        """Return the stores of a database."""
        return cls(
            EndpointStore(database, SEALER, MAX_ENDPOINTS, clock),
            DeliveryStore(database, LEASE, KEEP_DAYS, clock),
            HistoryStore(database, clock),
            UpkeepStore(database, KEEP_DAYS, clock),
            clock,
        )

    async def add(self, name: str = "w1", client: str | None = "shop", **more: Any) -> Webhook:  # noqa: ANN401 -- as the contract has it
        """Add an endpoint that wants all events of mails."""
        fields = {"url": URL, "events": ["email.*"], **more}
        asked = CreateWebhook.model_validate({"id": name, "client": client, **fields})
        created = await self.endpoints.create(asked)
        assert created.webhook is not None
        return created.webhook

    async def keep(self, *names: str, **more: Any) -> bool:  # noqa: ANN401 -- as the contract has it
        """Keep events of mails of the client `shop`."""
        return await self.deliveries.keep(self.messages(*names, **more))

    def messages(self, *names: str, **more: Any) -> Sequence[Message]:  # noqa: ANN401 -- as the contract has it
        """Return events as endpoints get them."""
        return [message_of(event(self.clock, each, **more)) for each in names]

    async def take(self, limit: int = 100) -> list[Due]:
        """Claim what is due."""
        return [*await self.deliveries.take(limit)]

    async def end(self, due: Due, status: int | None = 200, jitter: float = 0.5) -> bool:
        """Finish a try with an answer of this status; return whether that was written."""
        return (await self.deliveries.finish([self.tried(due, status, jitter)]))[0]

    def tried(self, due: Due, status: int | None = 200, jitter: float = 0.5) -> Try:
        """Return a try with an answer of this status."""
        at = datetime.fromtimestamp(self.clock.seconds, UTC)
        since = at - (due.begun_at or at)
        following = attempts.after(status, due.tries + 1, since, jitter, once=due.once)
        return Try(due, following, at, {"webhook-id": due.message_id}, status, answer=b"ok")

    async def found(self, name: str = "w1") -> Webhook:
        """Return an endpoint."""
        found = await self.endpoints.find(None, name)
        assert found is not None
        return found

    async def states(self, name: str = "w1") -> dict[str, str]:
        """Return the status of each event at an endpoint, by its webhook-id."""
        page = await self.history.deliveries(
            ListWebhookDeliveries(id="q", webhook_id=name, limit=100)
        )
        assert page is not None
        return {each.message_id: each.status for each in page.items}
