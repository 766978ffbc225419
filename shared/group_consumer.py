"""A consumer of many small messages that leaves time for others."""

import asyncio
from collections import deque

from shared.backlog import MAX_HELD_BYTES
from shared.consumer import Consumer, Publish, Subscription
from shared.delivery import Delivery
from shared.inflight import DeliveryTag

MAX_GROUP_BYTES = 64 << 10  # of bodies, which take about a millisecond to decode
PAUSE_ITERATIONS = 4  # of the loop: in so many a question is read, handled, answered and sent


class GroupConsumer(Consumer):
    """Starts the deliveries of one subscription in groups; each is handled and settled alone.

    A group has up to `group_size` deliveries, or MAX_GROUP_BYTES. Between two groups the loop has
    time for other work: a question does not wait until all that has come is decoded. Handlers of
    one group run at once, so that a store with a `Batcher` has them in one transaction.
    """

    def __init__(self, subscription: Subscription, publish: Publish) -> None:
        # Half of it is handled in one transaction while the other half is decoded.
        super().__init__(subscription, publish, MAX_HELD_BYTES // 2)
        self._group_size = subscription.group_size
        self._waiting: deque[tuple[Delivery, DeliveryTag]] = deque()
        self._starting: asyncio.Task[None] | None = None

    def release(self) -> None:
        """Start no more handlings; deliveries that wait for a group go back to the broker."""
        super().release()
        self._in_flight.give_back(*(tag for _, tag in self._waiting))
        self._waiting.clear()

    def _start(self, message: Delivery, tag: DeliveryTag) -> None:
        self._waiting.append((message, tag))
        if self._starting is None:
            # The task runs after all deliveries of this iteration of the loop have come.
            self._starting = asyncio.create_task(self._start_groups(), name="groups")

    async def _start_groups(self) -> None:
        try:
            while self._waiting:
                self._start_group()
                for _ in range(PAUSE_ITERATIONS):
                    await asyncio.sleep(0)
        finally:
            self._starting = None

    def _start_group(self) -> None:
        count = size = 0
        while self._waiting and count < self._group_size and size < MAX_GROUP_BYTES:
            message, tag = self._waiting.popleft()
            super()._start(message, tag)
            count, size = count + 1, size + len(message.body)
