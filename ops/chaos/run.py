"""One fault on a running stack: load before, during and after it, and then the books."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeVar

from yarl import URL

from ops import ledger
from ops.chaos.faults import BOUND_SECONDS, StackFault
from ops.chaos.flows import Endpoint, Flow, FlowRun
from ops.chaos.scratch import ScratchStack, until
from ops.chaos.verdict import Bounds, Doubt, FaultResult, LoadItem, count, recovery
from ops.ledger import SETTLE_SECONDS, Auditor
from ops.load.events import count_events
from ops.load.http import GatewayClient, LoadError
from shared.broker import Broker
from shared.contracts import EmailStatus
from shared.errors import NoAnswer, Unavailable

BEFORE_SECONDS: Final = 3.0
AFTER_SECONDS: Final = 8.0
STUCK_SECONDS: Final = 60.0  # after the fault; a flow that does not go on until then never does
MAX_LOAD_SECONDS: Final = 300.0  # of one fault, its begin and its end together
DRAIN_SECONDS: Final = 120.0  # for all that was accepted to arrive
_POLL_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 30.0  # for an answer to a single question

T = TypeVar("T")
Arrivals = Mapping[Flow, Mapping[str, Sequence[float]]]


class FaultTimes(NamedTuple):
    """The begin and the end of a fault, and since when the stack must go on."""

    begun: float
    ended: float
    since: float


@dataclass(frozen=True, slots=True)
class ChaosRun:
    """Runs faults, one after the other, on one stack.

    Load goes on for `after_seconds` once each flow goes on.
    """

    scratch: ScratchStack
    endpoint: Endpoint
    after_seconds: float = AFTER_SECONDS

    async def run(self, fault: StackFault, name: str) -> FaultResult:
        """Run a fault; `name` is that of its load.

        Raises SkippedError when the machine cannot do it, LoadError when the stack cannot be asked.
        """
        flows = FlowRun(name, self.scratch.addresses, MAX_LOAD_SECONDS)
        loading = asyncio.create_task(flows.run(MAX_LOAD_SECONDS), name="load")
        try:
            times = await self._fault(fault)
            await self._gone_on(flows, times.ended)
            flows.stop()
            await loading
        finally:
            loading.cancel()
        return await self._result(fault, flows, times)

    async def _fault(self, fault: StackFault) -> FaultTimes:
        await asyncio.sleep(BEFORE_SECONDS)
        await fault.begin(self.scratch)
        begun = time.time()
        if fault.is_over_at_once:
            return FaultTimes(begun, begun, begun)
        try:
            await asyncio.sleep(fault.held_seconds)
        finally:
            await fault.end(self.scratch)
        ended = time.time()
        return FaultTimes(begun, ended, begun if fault.survived else ended)

    async def _gone_on(self, flows: FlowRun, since: float) -> None:
        """Wait until each flow has accepted something new, and for a while of steady load."""

        async def all_accept() -> bool:
            return flows.all_accept(since)

        with suppress(TimeoutError):
            await until(all_accept, STUCK_SECONDS)
        await asyncio.sleep(self.after_seconds)

    async def _result(self, fault: StackFault, flows: FlowRun, times: FaultTimes) -> FaultResult:
        arrivals, doubt = await self._drained(fault, flows)
        await self._heard(arrivals)
        copies = {
            load.plan.recipient(number): len(arrivals[flow].get(load.plan.recipient(number), ()))
            for flow, load in flows.loads.items()
            if flow.is_mailed
            for number in load.accepted
        }
        items = [*_items(flows, arrivals), *_heard_items(arrivals, self.endpoint.heard)]
        silent = sum(not each.arrivals for each in items if each.flow == Flow.WEBHOOK)
        books = [f"{silent} deliveries were not told to the webhook"] if silent else []
        books += await self._insist(self._books)
        books += await self._uncounted()
        return FaultResult(
            fault.name,
            times.ended - times.begun,
            count(copies, doubt),
            recovery(items, times.since),
            Bounds(BOUND_SECONDS, fault.backlog_seconds + times.ended - times.begun),
            books,
        )

    async def _drained(self, fault: StackFault, flows: FlowRun) -> tuple[Arrivals, Doubt]:
        """Wait until each accepted mail has arrived, or is uncertain; return the copies and those.

        After DRAIN_SECONDS the rest is deferred, or lost.
        """
        give_up = time.monotonic() + DRAIN_SECONDS
        while True:
            arrivals = await self._insist(flows.arrivals)
            doubtful = set(_doubtful(flows, arrivals))
            lives = {each: await self._statuses(each) for each in doubtful}
            uncertain = {to for to, seen in lives.items() if EmailStatus.UNCERTAIN in seen}
            expired = {
                to
                for to, seen in lives.items()
                if fault.expires and seen[:1] == [EmailStatus.EXPIRED]
            }
            missing = {to for to in doubtful - uncertain - expired if not _copies(arrivals, to)}
            if not missing or time.monotonic() > give_up:
                if fault.doubles:
                    uncertain |= {to for to in doubtful if _copies(arrivals, to) > 1}
                deferred = {to for to in missing if lives[to][:1] == [EmailStatus.DEFERRED]}
                return arrivals, Doubt(uncertain, deferred, expired)
            await asyncio.sleep(_POLL_SECONDS)

    async def _heard(self, arrivals: Arrivals) -> None:
        """Wait until the webhooks of all mails have come, for DRAIN_SECONDS at most."""
        wanted = {to for flow in arrivals.values() for to in flow}

        async def all_heard() -> bool:
            return wanted <= self.endpoint.heard.keys()

        with suppress(TimeoutError):
            await until(all_heard, DRAIN_SECONDS)

    async def _statuses(self, recipient: str) -> Sequence[str]:
        """Return the status of a recipient in the ledger, and then those of all its attempts."""
        path = f"/v1/messages?recipient={recipient}"
        page = await self._insist(lambda: self._get(path))
        found: list[str] = []
        for message in page["messages"]:
            path = f"/v1/messages/{message['id']}"
            life = await self._insist(lambda path=path: self._get(path))  # type: ignore[misc]
            found += [each["status"] for each in _entries(life)]
        return found

    async def _uncounted(self) -> Sequence[str]:
        """Return a line if the classifier has not counted the deliveries of the ledger."""
        # Also of mails that were accepted by a clock that was ahead.
        stats = await self._insist(lambda: self._get(f"/v1/stats?to={_tomorrow()}"))
        delivered, now = stats["counts"]["delivered"], await self._insist(self._counted)
        if delivered == now:
            return ()
        return [f"the ledger has {delivered} deliveries, the classifier {now}"]

    async def _counted(self) -> int:
        async with self._client() as client:
            return await count_events(client)

    async def _get(self, path: str) -> Any:  # noqa: ANN401 -- JSON
        async with self._client() as client:
            return await client.get(path)

    def _client(self) -> AbstractAsyncContextManager[GatewayClient]:
        addresses = self.scratch.addresses
        return GatewayClient.open(URL(addresses.gateway_url), addresses.client_key)

    async def _books(self) -> Sequence[str]:
        """Return what the books say is wrong."""
        record, now = self.scratch.record, datetime.now(UTC)
        url = record["amqp_url"]
        async with Broker.connect(url, "ops chaos", patience=0) as broker:
            evidence = await Auditor(broker).books_at(
                url, record["management_url"], now - timedelta(days=1), SETTLE_SECONDS
            )
        return ledger.faults(evidence, now)

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer, for _PATIENCE_SECONDS. Raises what the last try raised."""
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return await ask()
            except (LoadError, Unavailable, NoAnswer, OSError):
                if time.monotonic() > give_up:
                    raise
                await asyncio.sleep(_POLL_SECONDS)


def _tomorrow() -> str:
    return (datetime.now(UTC) + timedelta(days=2)).date().isoformat()


def _doubtful(flows: FlowRun, arrivals: Arrivals) -> Iterator[str]:
    """Yield each recipient with none or several copies of its accepted mail."""
    for flow, load in flows.loads.items():
        for number in load.accepted if flow.is_mailed else ():
            recipient = load.plan.recipient(number)
            if len(arrivals[flow].get(recipient, ())) != 1:
                yield recipient


def _copies(arrivals: Arrivals, recipient: str) -> int:
    return sum(len(flow.get(recipient, ())) for flow in arrivals.values())


def _items(flows: FlowRun, arrivals: Arrivals) -> Iterator[LoadItem]:
    """Yield all accepted items."""
    for flow, load in flows.loads.items():
        for number, accepted in load.accepted.items():
            copies = arrivals[flow].get(load.plan.recipient(number), ())
            yield LoadItem(flow, accepted, copies if flow.is_mailed else [load.answered[number]])


def _heard_items(arrivals: Arrivals, heard: Mapping[str, float]) -> Iterator[LoadItem]:
    """Yield the webhooks, each accepted as its mail arrived."""
    for flow in arrivals.values():
        for recipient, copies in flow.items():
            at = heard.get(recipient)
            yield LoadItem(Flow.WEBHOOK, copies[0], [] if at is None else [at])


def _entries(life: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for recipient in life["recipients"]:
        yield recipient
        yield from recipient.get("history", ())
