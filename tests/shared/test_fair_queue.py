"""Tests of a queue whose flows are served in turn."""

from collections import Counter, defaultdict
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.fair_queue import FairQueue

FLOWS = st.lists(st.integers(0, 4), max_size=60)


def popped(queue: FairQueue[tuple[int, int]]) -> list[tuple[int, int]]:
    """Remove all items."""
    items = []
    while (item := queue.pop()) is not None:
        items.append(item)
    return items


def test_a_new_flow_waits_for_one_round() -> None:
    """One item of each other flow goes before the first item of a new one, however many wait."""
    queue: FairQueue[str] = FairQueue()
    for number in range(1000):
        queue.push("a", f"a{number}")
    assert [queue.pop(), queue.pop()] == ["a0", "a1"]
    queue.push("b", "b0")

    assert [queue.pop(), queue.pop(), queue.pop()] == ["a2", "b0", "a3"]


def test_a_flow_may_be_none() -> None:
    """Mails of no client are a flow as well."""
    queue: FairQueue[str] = FairQueue()
    queue.push(None, "of none")

    assert queue.pop() == "of none"
    assert queue.pop() is None


@given(FLOWS)
def test_each_flow_keeps_its_order_and_loses_nothing(flows: list[int]) -> None:
    """All items come out once, those of one flow in the order in which they came."""
    queue: FairQueue[tuple[int, int]] = FairQueue()
    for number, flow in enumerate(flows):
        queue.push(flow, (flow, number))
    found = defaultdict(list)
    for flow, number in popped(queue):
        found[flow].append(number)

    assert not queue
    assert all(numbers == sorted(numbers) for numbers in found.values())
    assert Counter(flows) == {flow: len(numbers) for flow, numbers in found.items()}


@given(FLOWS)
def test_no_flow_is_ahead_by_more_than_one(flows: list[int]) -> None:
    """While two flows have items, neither gets two items between two of the other."""
    queue: FairQueue[tuple[int, int]] = FairQueue()
    for number, flow in enumerate(flows):
        queue.push(flow, (flow, number))
    left, order = Counter(flows), [flow for flow, _ in popped(queue)]
    for before, after in pairwise(order):
        left[before] -= 1
        assert before != after or not any(left[flow] for flow in left if flow != before)


def test_a_flow_that_is_passed_over_keeps_its_turn() -> None:
    """An item that cannot go now goes before the next round as soon as it can."""
    queue: FairQueue[str] = FairQueue()
    for item in ("a0", "b0", "c0", "b1"):
        queue.push(item[0], item)

    assert queue.pop(lambda item: item != "a0") == "b0"
    assert queue.pop() == "a0"
    assert queue.pop(lambda _: False) is None
    assert queue.clear() == ["c0", "b1"]
    assert not queue
