"""Those who send: as many at a time as told, each thing until it is answered, and no longer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ops.load.crew import Crew, Lane
from ops.load.door import Busy
from ops.load.errors import LoadError
from shared.errors import Unavailable

LONG = 60.0  # seconds


def lane(send: Callable[[int], Awaitable[None]]) -> Lane[int]:
    """Give a lane of those who send like that."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Callable[[int], Awaitable[None]]]:
        yield send

    return opened


async def test_so_many_send_at_the_same_time() -> None:
    """No more than told, and no fewer while there is something to send."""
    busy, most, sent = 0, 0, list[int]()

    async def send(_: int) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1

    crew = Crew(iter(range(50)), lane(send), sent.append)
    await crew.work(7, LONG)

    assert most == 7
    assert sorted(sent) == list(range(50))
    assert len(crew.latencies) == 50


async def test_what_is_refused_is_sent_again_as_the_same() -> None:
    """Its ids say that it is the same, so it is counted once."""
    tried, sent = list[int](), list[int]()

    async def send(item: int) -> None:
        tried.append(item)
        if tried.count(item) < 3:
            raise Busy("not now", after=0)

    crew = Crew(iter([1, 2]), lane(send), sent.append)
    await crew.work(1, LONG)

    assert (tried, sent, crew.again) == ([1, 1, 1, 2, 2, 2], [1, 2], 4)
    assert not crew.unsure


async def test_what_was_never_answered_when_time_is_up_is_unsure() -> None:
    """It may have been done, so that nobody can tell it lost or doubled."""

    async def send(item: int) -> None:
        raise Unavailable(f"no broker for {item}")

    crew = Crew(iter(range(9)), lane(send), list[int]().append)
    await crew.work(2, within=0)

    assert crew.unsure == [0, 1]
    assert not crew.latencies


async def test_what_is_under_way_is_waited_for() -> None:
    """Stopped, it takes nothing new, and loses the answer to nothing."""
    all_busy, answer, sent = asyncio.Barrier(4), asyncio.Event(), list[int]()

    async def send(_: int) -> None:
        await all_busy.wait()
        await answer.wait()

    crew = Crew(iter(range(9)), lane(send), sent.append)
    working = asyncio.create_task(crew.work(3, LONG))
    await all_busy.wait()
    crew.stop()
    answer.set()
    await working

    assert sorted(sent) == [0, 1, 2]


async def test_what_can_never_be_sent_ends_all() -> None:
    """One wrong key is all that need be told."""

    async def send(item: int) -> None:
        raise LoadError(f"no {item}")

    with pytest.raises(LoadError, match="no 0"):
        await Crew(iter(range(9)), lane(send), list[int]().append).work(3, LONG)
