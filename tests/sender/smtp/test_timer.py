"""Tests of a time limit that moves."""

import asyncio
from collections.abc import Callable

import pytest

from services.sender.smtp.timer import Alarm

SECONDS = 5  # for what is expected to happen


@pytest.fixture
async def rung() -> asyncio.Event:
    """Give an event for the alarm to set."""
    return asyncio.Event()


async def ring_of(alarm: Alarm, rung: asyncio.Event) -> float:
    """Wait until it rings and give how many seconds late it is, at a time it was set to."""
    due, loop = alarm._due, asyncio.get_running_loop()
    async with asyncio.timeout(SECONDS):
        await rung.wait()
    return loop.time() - due


@pytest.mark.parametrize(
    "times", [(0.02,), (60, 0.02), (0.01, 0.03), (0.03, 0.01, 0.02), (-1,), (60, 0.01, -1)]
)
async def test_it_rings_at_the_last_time_it_was_set_to(
    rung: asyncio.Event, times: tuple[float, ...]
) -> None:
    """Sooner, later, or in the past: what it was set to before counts no more."""
    alarm, now = Alarm(rung.set), asyncio.get_running_loop().time()
    for seconds in times:
        alarm.set(now + seconds)

    assert await ring_of(alarm, rung) >= 0


async def test_it_rings_again(rung: asyncio.Event) -> None:
    """Having rung it is as new."""
    alarm, loop = Alarm(rung.set), asyncio.get_running_loop()
    for _ in range(2):
        alarm.set(loop.time() + 0.01)
        assert await ring_of(alarm, rung) >= 0
        rung.clear()


@pytest.mark.parametrize("how", [Alarm.clear, Alarm.stop], ids=["cleared", "stopped"])
async def test_it_is_silent(rung: asyncio.Event, how: Callable[[Alarm], None]) -> None:
    """Cleared it does not ring, though its timer may go off; set once more it does."""
    alarm, other, loop = Alarm(rung.set), asyncio.Event(), asyncio.get_running_loop()
    alarm.set(loop.time() + 0.01)
    how(alarm)
    loop.call_later(0.03, other.set)
    async with asyncio.timeout(SECONDS):
        await other.wait()

    assert not rung.is_set()
    alarm.set(loop.time())
    assert await ring_of(alarm, rung) >= 0
