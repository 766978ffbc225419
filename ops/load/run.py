"""One run: send, wait until all has arrived, compare, tell."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Generic, TypeVar

from ops.load import latencies
from ops.load.crew import Crew, Lane
from ops.load.load import Load
from ops.load.progress import Progress
from shared.errors import Unavailable

_LOOK_SECONDS: Final = 0.2  # between two looks at what has arrived
_SHOWN: Final = 10  # differences

T = TypeVar("T")
V = TypeVar("V")


class End(IntEnum):
    """How a run ends, as an exit code."""

    EXACT = 0
    DIFFERENT = 1  # or not all could be sent
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a run: how many send at a time, seconds for each phase, seconds without news."""

    concurrency: int
    seconds: float
    patience: float


class Run(Generic[T]):
    """Puts a load on a stack and looks whether all of it came to be, once."""

    def __init__(self, load: Load[T], lane: Lane[T], limits: Limits, progress: Progress) -> None:
        self._load = load
        self._limits = limits
        self._progress = progress
        self._crew = Crew(load.items(), lane, load.sent)
        self._interrupted = asyncio.Event()
        self._there = 0  # things that have arrived

    def interrupt(self) -> None:
        """End when what is under way is answered; nothing is compared then."""
        self._interrupted.set()
        self._crew.stop()

    async def run(self) -> End:
        """Do it all and tell it. Raises LoadError when it cannot be done."""
        load, begun = self._load, time.perf_counter()
        async with self._progress.phase("sending", lambda: load.done, load.total):
            await self._crew.work(self._limits.concurrency, self._limits.seconds)
        print(self._sending(time.perf_counter() - begun), flush=True)
        if not self._interrupted.is_set():
            async with self._progress.phase("arriving", lambda: self._there, load.done):
                await self._settled(self._count, lambda there: there >= load.done)
        seconds = time.perf_counter() - begun
        differences = await self._settled(self._differences, lambda found: not found)
        if self._interrupted.is_set():
            print(f"interrupted: {load.place} was not compared with what was sent")
            return End.INTERRUPTED
        print(f"  {self._there:,} were in {load.place} after {_rated(self._there, seconds)}")
        print("\n".join(f"  {line}" for line in load.summary()))
        return self._end(differences or ())

    def _sending(self, seconds: float) -> str:
        load, crew = self._load, self._crew
        of = f"{load.done:,} of {load.total:,} {load.name}"
        lines = [f"{of} sent in {_rated(load.done, seconds)}"]
        lines += [f"  answered after   {latencies.told(crew.latencies)}"]
        lines += [f"  {crew.again:,} times something had to be sent again"] if crew.again else []
        lines += [f"  {len(crew.unsure):,} were never answered"] if crew.unsure else []
        return "\n".join(lines)

    async def _count(self) -> int:
        self._there = await self._load.arrived()
        return self._there

    async def _differences(self) -> Sequence[str]:
        return tuple(await self._load.differences(self._crew.unsure))

    async def _settled(
        self, look: Callable[[], Awaitable[V]], is_good: Callable[[V], bool]
    ) -> V | None:
        """Look until it is good, has not changed for as long as our patience lasts, or too long."""
        seen: V | None = None
        loop = asyncio.get_running_loop()
        end = loop.time() + self._limits.seconds
        give_up = loop.time() + self._limits.patience
        while not self._interrupted.is_set() and loop.time() < min(end, give_up):
            with suppress(Unavailable):  # whom the load is too much for may answer later
                now = await look()
                if is_good(now):
                    return now
                if now != seen:
                    seen, give_up = now, loop.time() + self._limits.patience
            with suppress(TimeoutError):
                await asyncio.wait_for(self._interrupted.wait(), _LOOK_SECONDS)
        return seen

    def _end(self, differences: Sequence[str]) -> End:
        load = self._load
        if differences:
            print(f"{load.place} does not hold what was sent; {len(differences):,} differ:")
            print("\n".join(f"  {line}" for line in differences[:_SHOWN]))
            return End.DIFFERENT
        print(f"{load.place} holds exactly what was sent")
        if load.done < load.total:
            print(f"but only {load.done:,} of {load.total:,} could be sent in time")
            return End.DIFFERENT
        return End.EXACT


def _rated(count: int, seconds: float) -> str:
    return f"{seconds:,.1f} s ({count / seconds:,.0f}/s)"
