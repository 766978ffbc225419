"""The load of delivery events, and the domain table that counts them."""

from collections.abc import Iterator, Sequence

from ops.load.door import Request
from ops.load.sightings import Ledger, Plan
from ops.load.table import Table
from shared.contracts import FeedbackReported


class Events:
    """Events of many domains. `before` are the events that were counted before."""

    name = "events"
    place = "the domain table"

    def __init__(self, plan: Plan, table: Table, before: int) -> None:
        self.total = plan.events
        self._plan = plan
        self._table = table
        self._before = before
        self._ledger = Ledger(plan)

    @property
    def done(self) -> int:
        """How many events were answered."""
        return self._ledger.events

    def items(self) -> Iterator[range]:
        """Give the batches."""
        return self._plan.batches()

    def request(self, item: range) -> Request:
        """Give the request of a batch."""
        return self._plan.request(item)

    def message(self, item: range) -> FeedbackReported:
        """Give the message of a batch."""
        return self._plan.report(item)

    def sent(self, item: range) -> None:
        """Note a batch."""
        self._ledger.add(item)

    async def arrived(self) -> int:
        """Tell how many events were counted since the run began, ours and all others."""
        return await self._table.events() - self._before

    async def differences(self, unsure: Sequence[range]) -> Sequence[str]:
        """Compare the table with what was sent."""
        return self._ledger.differences(await self._table.counts(self._plan), unsure)

    def summary(self) -> Sequence[str]:
        """Tell what the table has to say."""
        ledger, counts = self._ledger, self._ledger.counts
        events = f"{counts.delivered:,} delivered and {counts.bounced:,} bounced"
        return [f"{ledger.domains:,} domains, {events}"]
