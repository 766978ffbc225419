"""Tests of doing together what was asked for at the same time."""

import asyncio
from collections.abc import Sequence

import pytest

from shared.batch import MOST, Batch
from shared.errors import Retry


class Turns:
    """Doubles numbers; each turn waits until it is let `go`, once that is cleared."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, items: Sequence[int]) -> Sequence[int]:
        """Do one turn; 13 is the end of it."""
        self.seen.append(list(items))
        self.begun.set()
        await self.go.wait()
        if 13 in items:
            raise ValueError("unlucky")
        return [item * 2 for item in items]


async def test_together() -> None:
    """What is asked for during one turn is the next, and each gets its own result."""
    turns = Turns()
    turns.go.clear()
    batch = Batch(turns)

    first = asyncio.create_task(batch.add(1))
    await turns.begun.wait()
    others = [asyncio.create_task(batch.add(number)) for number in (2, 3, 4)]
    turns.go.set()

    assert await asyncio.gather(first, *others) == [2, 4, 6, 8]
    assert turns.seen == [[1], [2, 3, 4]]


async def test_limit() -> None:
    """A turn has a limit, so that the first need not wait for any number of others."""
    turns = Turns()
    batch = Batch(turns)

    await asyncio.gather(*(batch.add(0) for _ in range(MOST + 1)))

    assert [len(turn) for turn in turns.seen] == [MOST, 1]


@pytest.mark.parametrize("place", range(5))
async def test_one_poison_takes_no_neighbour_with_it(place: int) -> None:
    """A turn that fails is done again in halves, until what fails is alone (issue 10, A3)."""
    turns = Turns()
    batch = Batch(turns)
    items = [1, 2, 3, 4]
    items.insert(place, 13)

    results = await asyncio.gather(*map(batch.add, items), return_exceptions=True)

    assert isinstance(results.pop(place), ValueError)
    assert results == [2, 4, 6, 8]
    assert len(turns.seen) <= 1 + 2 * 3


async def test_nothing_but_poison() -> None:
    """Each fails for itself, and the next turn is as any other."""
    batch = Batch(Turns())

    failed = await asyncio.gather(batch.add(13), batch.add(13), return_exceptions=True)

    assert [type(each) for each in failed] == [ValueError, ValueError]
    assert await batch.add(1) == 2


@pytest.mark.parametrize("outage", [Retry("away"), ConnectionError("refused")], ids=repr)
async def test_an_outage_is_asked_once(outage: Exception) -> None:
    """While the database is away the items are not tried one by one: that multiplies its load."""
    calls: list[int] = []

    async def turn(items: Sequence[int]) -> Sequence[int]:
        calls.append(len(items))
        raise outage

    batch = Batch(turn)
    failed = await asyncio.gather(*map(batch.add, range(9)), return_exceptions=True)

    assert [type(each) for each in failed] == [type(outage)] * 9
    assert calls == [9]


async def test_who_has_left_is_not_done_again() -> None:
    """A caller that left while the whole turn failed is in neither half."""
    turns = Turns()
    turns.go.clear()
    batch = Batch(turns)
    tasks = [asyncio.create_task(batch.add(item)) for item in (1, 2, 13)]
    await turns.begun.wait()
    tasks[0].cancel()
    turns.go.set()

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(each) for each in results] == [asyncio.CancelledError, int, ValueError]
    assert all(1 not in turn for turn in turns.seen[1:])


@pytest.mark.parametrize("begun", [False, True])
async def test_cancelled(begun: bool) -> None:  # noqa: FBT001 -- a case, not a switch
    """Who is cancelled before a turn is not in it, and later spoils it for nobody."""
    turns = Turns()
    turns.go.clear()
    batch = Batch(turns)

    first = asyncio.create_task(batch.add(1))
    await turns.begun.wait()
    second, third = (asyncio.create_task(batch.add(number)) for number in (2, 3))
    (first if begun else second).cancel()
    turns.go.set()
    results = await asyncio.gather(first, second, third, return_exceptions=True)

    assert results[2] == 6
    assert turns.seen == [[1], [2, 3] if begun else [3]]
    assert [isinstance(each, asyncio.CancelledError) for each in results[:2]] == [begun, not begun]


async def test_too_late() -> None:
    """Who waits no longer is told so; an item whose turn has not begun is not done any more."""
    turns = Turns()
    turns.go.clear()
    batch = Batch(turns)
    first = asyncio.create_task(batch.add(1, 0.01))
    await turns.begun.wait()

    late = await asyncio.gather(first, batch.add(2, 0.01), return_exceptions=True)
    turns.go.set()

    assert [type(error) for error in late] == [TimeoutError] * 2
    assert await batch.add(3, 10) == 6
    assert turns.seen == [[1], [3]]
