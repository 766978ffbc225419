"""A consumer of messages that publish nothing, which are handled many at a time."""

import asyncio
import time
from collections.abc import Sequence

import structlog

from shared import delivery, inflight
from shared.consumer import (
    DONE,
    MAX_GROUP_BYTES,
    PAUSE_ITERATIONS,
    BatchHandler,
    GroupConsumer,
    Publish,
    Subscription,
    is_cancelled_from_outside,
)
from shared.contracts import Contract
from shared.delivery import Delivery
from shared.errors import Unavailable
from shared.inflight import DeliveryTag, Phase
from shared.runtime import log, tracing

# That deliveries wait for others, since a batch costs as much as many deliveries: the first after a
# pause, and those that came while a batch was handled.
FIRST_BATCH_SECONDS = 0.02
BATCH_SECONDS = 0.1

Tagged = tuple[Delivery, DeliveryTag]

logger = structlog.get_logger(__name__)


class BatchConsumer(GroupConsumer):
    """Calls `handle_batch` with up to `group_size` messages, one batch after the other.

    A task, a time limit and an acknowledgement for each cost more than to handle a small message.
    Those that cannot be decoded, and all of a batch that fails, go to the handlers of their
    contracts, each alone. So do large bodies, of which few fit into memory.
    """

    def __init__(
        self, subscription: Subscription, publish: Publish, handle_batch: BatchHandler
    ) -> None:
        super().__init__(subscription, publish)
        self._handle_batch = handle_batch

    def _start(self, message: Delivery, tag: DeliveryTag) -> None:
        if len(message.body) > self._backlog.free_bytes:
            self._start_alone(message, tag)
        else:
            super()._start(message, tag)

    async def _start_groups(self) -> None:
        seconds = FIRST_BATCH_SECONDS
        try:
            while self._waiting:
                if len(self._waiting) < self._group_size:
                    await asyncio.sleep(seconds)
                seconds = BATCH_SECONDS
                size = min(self._group_size, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(size)]
                tags = [tag for _, tag in batch]
                await asyncio.wait({self._in_flight.start(self._process_batch(batch), *tags)})
        finally:
            self._starting = None

    async def _process_batch(self, batch: Sequence[Tagged]) -> None:
        """Decode, handle, and only then acknowledge."""
        inflight.reach(Phase.BEGUN)
        log.bind({"queue": self._subscription.queue})
        begun = time.perf_counter()
        messages = [message for message, _ in batch]
        with tracing.processing_batch(self._subscription.queue, messages) as span:
            acknowledged = await self._settle_batch(batch)
            span.set({"postrider.batch.acknowledged": acknowledged})
        seconds = time.perf_counter() - begun
        for _ in range(acknowledged):
            self._metrics.handled(DONE, seconds)

    async def _settle_batch(self, batch: Sequence[Tagged]) -> int:
        """Handle a batch, each alone if it fails; return how many were acknowledged together."""
        contracts, handled, alone = await self._decoded(batch)
        tracing.handle_together([message for message, _ in handled])
        if contracts and not await self._is_handled(contracts):
            handled, alone = [], batch
        for message, tag in alone:
            self._start_alone(message, tag)
        acknowledged = sum(_is_acknowledged(tag) for _, tag in handled)
        if acknowledged < len(handled):
            logger.warning("a channel closed before acknowledgements; those deliveries come again")
        return acknowledged

    async def _decoded(
        self, batch: Sequence[Tagged]
    ) -> tuple[Sequence[Contract], Sequence[Tagged], Sequence[Tagged]]:
        """Return the messages that can be decoded, their deliveries, and the other deliveries."""
        contracts, decoded, others, size = list[Contract](), list[Tagged](), list[Tagged](), 0
        for message, tag in batch:
            if (size := size + len(message.body)) > MAX_GROUP_BYTES:
                size = len(message.body)
                for _ in range(PAUSE_ITERATIONS):
                    await asyncio.sleep(0)
            try:
                contracts.append(delivery.contract(message, self._contracts))
                decoded.append((message, tag))
            except Exception:  # noqa: BLE001 -- it is raised again, and answered, alone
                others.append((message, tag))
        return contracts, decoded, others

    async def _is_handled(self, contracts: Sequence[Contract]) -> bool:
        """Handle a batch under the time limit; return whether it succeeded."""
        try:
            async with asyncio.timeout(self._subscription.limit_seconds):
                await self._handle_batch(contracts)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and is_cancelled_from_outside():
                raise
            reason = type(error).__name__
            logger.warning("a batch failed: each alone", count=len(contracts), reason=reason)
            return False
        return True

    def _start_alone(self, message: Delivery, tag: DeliveryTag) -> None:
        if self._in_flight.is_ending:
            self._in_flight.give_back(tag)
        else:
            super(GroupConsumer, self)._start(message, tag)  # of `Consumer`


def _is_acknowledged(tag: DeliveryTag) -> bool:
    """Acknowledge a delivery; return False if its channel is gone, so that it comes again."""
    try:
        tag.ack()
    except Unavailable:
        return False
    return True
