"""Tests of batching: one call for the items that came during the call before."""

import asyncio
from collections.abc import Sequence

import pytest

from shared.batch import MAX_BATCH_SIZE, Batcher
from shared.errors import Retry


class Doubling:
    """Doubles numbers; each batch waits for the event `go`."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, items: Sequence[int]) -> Sequence[int]:
        """Run one batch; the number 13 fails it."""
        self.seen.append(list(items))
        self.begun.set()
        await self.go.wait()
        if 13 in items:
            raise ValueError("unlucky")
        return [item * 2 for item in items]


async def test_together() -> None:
    """Items that come during one batch are the next, and each gets its own result."""
    doubling = Doubling()
    doubling.go.clear()
    batcher = Batcher(doubling)

    first = asyncio.create_task(batcher.add(1))
    await doubling.begun.wait()
    others = [asyncio.create_task(batcher.add(number)) for number in (2, 3, 4)]
    doubling.go.set()

    assert await asyncio.gather(first, *others) == [2, 4, 6, 8]
    assert doubling.seen == [[1], [2, 3, 4]]


async def test_limit() -> None:
    """A batch has a limit, so that the first item does not wait for any number of others."""
    doubling = Doubling()
    batcher = Batcher(doubling)

    await asyncio.gather(*(batcher.add(0) for _ in range(MAX_BATCH_SIZE + 1)))

    assert [len(batch) for batch in doubling.seen] == [MAX_BATCH_SIZE, 1]


@pytest.mark.parametrize("place", range(5))
async def test_one_poison_takes_no_neighbour_with_it(place: int) -> None:
    """A batch that fails runs again in halves, until the poison is alone (issue 10, A3)."""
    doubling = Doubling()
    batcher = Batcher(doubling)
    items = [1, 2, 3, 4]
    items.insert(place, 13)

    results = await asyncio.gather(*map(batcher.add, items), return_exceptions=True)

    assert isinstance(results.pop(place), ValueError)
    assert results == [2, 4, 6, 8]
    assert len(doubling.seen) <= 1 + 2 * 3


async def test_nothing_but_poison() -> None:
    """Each poison item fails by itself, and the next batch runs as any other."""
    batcher = Batcher(Doubling())

    failed = await asyncio.gather(batcher.add(13), batcher.add(13), return_exceptions=True)

    assert [type(each) for each in failed] == [ValueError, ValueError]
    assert await batcher.add(1) == 2


@pytest.mark.parametrize("outage", [Retry("away"), ConnectionError("refused")], ids=repr)
async def test_an_outage_is_asked_once(outage: Exception) -> None:
    """An outage is not tried item by item: that would multiply the load on the database."""
    calls: list[int] = []

    async def run_batch(items: Sequence[int]) -> Sequence[int]:
        calls.append(len(items))
        raise outage

    batcher = Batcher(run_batch)
    failed = await asyncio.gather(*map(batcher.add, range(9)), return_exceptions=True)

    assert [type(each) for each in failed] == [type(outage)] * 9
    assert calls == [9]


async def test_a_cancelled_item_is_not_run_again() -> None:
    """An item whose caller was cancelled while the batch failed is in neither half."""
    doubling = Doubling()
    doubling.go.clear()
    batcher = Batcher(doubling)
    tasks = [asyncio.create_task(batcher.add(item)) for item in (1, 2, 13)]
    await doubling.begun.wait()
    tasks[0].cancel()
    doubling.go.set()

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(each) for each in results] == [asyncio.CancelledError, int, ValueError]
    assert all(1 not in batch for batch in doubling.seen[1:])


@pytest.mark.parametrize("begun", [False, True])
async def test_cancelled(begun: bool) -> None:  # noqa: FBT001 -- a case, not a switch
    """A caller cancelled before the batch takes its item out; later it harms no neighbour."""
    doubling = Doubling()
    doubling.go.clear()
    batcher = Batcher(doubling)

    first = asyncio.create_task(batcher.add(1))
    await doubling.begun.wait()
    second, third = (asyncio.create_task(batcher.add(number)) for number in (2, 3))
    (first if begun else second).cancel()
    doubling.go.set()
    results = await asyncio.gather(first, second, third, return_exceptions=True)

    assert results[2] == 6
    assert doubling.seen == [[1], [2, 3] if begun else [3]]
    assert [isinstance(each, asyncio.CancelledError) for each in results[:2]] == [begun, not begun]


async def test_too_late() -> None:
    """A caller gets TimeoutError after its seconds; an item not begun by then is dropped."""
    doubling = Doubling()
    doubling.go.clear()
    batcher = Batcher(doubling)
    first = asyncio.create_task(batcher.add(1, 0.01))
    await doubling.begun.wait()

    late = await asyncio.gather(first, batcher.add(2, 0.01), return_exceptions=True)
    doubling.go.set()

    assert [type(error) for error in late] == [TimeoutError] * 2
    assert await batcher.add(3, 10) == 6
    assert doubling.seen == [[1], [3]]


async def test_too_few_results() -> None:
    """A `run_batch` that returns too few results fails: no caller gets another's result."""

    async def too_few(items: Sequence[int]) -> Sequence[int]:
        return items[:1]

    batcher = Batcher(too_few)

    results = await asyncio.gather(*map(batcher.add, (1, 2)))

    assert results == [1, 2]


async def test_an_error_of_many_callers_does_not_grow() -> None:
    """An error that is raised to many callers has the same traceback for each of them."""

    async def away(_: Sequence[int]) -> Sequence[int]:
        raise Retry("away")

    batcher, depths = Batcher(away), []
    for task in [asyncio.create_task(batcher.add(number)) for number in range(50)]:
        with pytest.raises(Retry) as caught:
            await task
        depths.append(len(caught.traceback))

    assert max(depths) == min(depths)
