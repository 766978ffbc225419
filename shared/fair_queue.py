"""Pure: a queue of several flows, such as clients, that are served in turn (fair queuing)."""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items of several flows: each flow in its order, one item of each flow in a round.

    A flow that comes anew waits for one round at most, however long the others are.
    """

    def __init__(self) -> None:
        self._flows: OrderedDict[Hashable, deque[T]] = OrderedDict()  # the next one first

    def __bool__(self) -> bool:
        return bool(self._flows)

    def push(self, flow: Hashable, item: T) -> None:
        """Add an item at the end of its flow."""
        self._flows.setdefault(flow, deque()).append(item)

    def pop(self, is_able: Callable[[T], bool] = lambda _: True) -> T | None:
        """Remove and return the first item of the next flow whose first item is able, if any.

        A flow that is passed over keeps its turn.
        """
        for flow, items in self._flows.items():
            if is_able(items[0]):
                return self._shift(flow)
        return None

    def clear(self) -> list[T]:
        """Remove and return all items, flow by flow."""
        items = [item for flow in self._flows.values() for item in flow]
        self._flows.clear()
        return items

    def _shift(self, flow: Hashable) -> T:
        items = self._flows[flow]
        item = items.popleft()
        if items:
            self._flows.move_to_end(flow)
        else:
            del self._flows[flow]
        return item
