"""Periodic work: at once, again and again, in spite of failures, until the block is left."""

import asyncio

import pytest

from shared.runtime import periodic


class Work:
    """Counts its turns; the first ones may fail."""

    def __init__(self, failures: int = 0) -> None:
        self.turns = 0
        self._failures = failures
        self._done = asyncio.Condition()

    async def __call__(self) -> None:
        """Take one turn."""
        self.turns += 1
        async with self._done:
            self._done.notify_all()
        if self.turns <= self._failures:
            raise ConnectionError("the database is away")

    async def reached(self, turns: int) -> None:
        """Wait until so many turns were taken."""
        async with asyncio.timeout(5), self._done:
            await self._done.wait_for(lambda: self.turns >= turns)


async def test_it_begins_at_once() -> None:
    """The first turn does not wait for the interval."""
    work = Work()
    async with periodic.repeating(work, 3600, "test"):
        await work.reached(1)


async def test_it_comes_again_after_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """A turn that fails is told in the log, and the next one comes."""
    work = Work(failures=2)
    async with periodic.repeating(work, 0.001, "test"):
        await work.reached(4)

    assert "the database is away" in capsys.readouterr().out


async def test_it_ends_with_the_block() -> None:
    """Leaving the block ends the work, even in the middle of a turn."""
    begun = asyncio.Event()

    async def never_ends() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(5), periodic.repeating(never_ends, 1, "endless work"):
        await begun.wait()

    assert "endless work" not in {task.get_name() for task in asyncio.all_tasks()}
