"""A consumer of many small messages, where those that come together share a task."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from shared.backlog import MAX_HELD_BYTES
from shared.consumer import Consumer, Publish, Subscription
from shared.delivery import Delivery
from shared.errors import Unavailable
from shared.inflight import DeliveryTag

MAX_GROUP_BYTES = 64 << 10  # of bodies, which take about a millisecond to decode
PAUSE_ITERATIONS = 4  # of the loop: in so many a question is read, handled, answered and sent


class GroupTag(NamedTuple):
    """The tags of deliveries that are settled together.

    After a lost channel a group may have deliveries of the old and of the new one. Those of the old
    one are delivered again, and must not keep the others from being settled.
    """

    tags: Sequence[DeliveryTag]

    async def ack(self) -> None:
        """Acknowledge all. Raises Unavailable when one of their channels is gone."""
        await _settle_each(tag.ack for tag in self.tags)

    async def requeue(self) -> None:
        """Return all to their queue. Raises Unavailable when one of their channels is gone."""
        await _settle_each(tag.requeue for tag in self.tags)

    @property
    def void(self) -> bool:
        """Whether the channels of all of them are gone."""
        return all(tag.void for tag in self.tags)


async def _settle_each(settlements: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Settle all deliveries that can be settled. Raises Unavailable if some could not."""
    lost: Unavailable | None = None
    for settle in settlements:
        try:
            await settle()
        except Unavailable as error:
            lost = error
    if lost is not None:
        raise lost


class GroupConsumer(Consumer):
    """Handles the deliveries of one subscription in groups, each delivery as if it were alone.

    A group has up to `group_size` deliveries, or MAX_GROUP_BYTES. Between two groups the loop has
    time for other work: a question does not wait until all that has come is decoded.
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
        while self._waiting:
            group = self._next_group()
            self._process_soon([message for message, _ in group], GroupTag([t for _, t in group]))
            for _ in range(PAUSE_ITERATIONS):
                await asyncio.sleep(0)
        self._starting = None

    def _next_group(self) -> Sequence[tuple[Delivery, DeliveryTag]]:
        group: list[tuple[Delivery, DeliveryTag]] = []
        size = 0
        while self._waiting and len(group) < self._group_size and size < MAX_GROUP_BYTES:
            message, tag = self._waiting.popleft()
            group.append((message, tag))
            size += len(message.body)
        return group
