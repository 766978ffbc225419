"""One run: send a workload, wait until all of it has arrived, compare, and print what was found."""

import asyncio
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from typing import Final, Generic, Protocol, TypeVar

from yarl import URL

from ops.load import report
from ops.load.http import GatewayClient, HttpRequest, LoadError, TryLater
from ops.load.report import ProgressBar
from shared.broker import Broker
from shared.contracts import Contract
from shared.errors import Unavailable

_RETRY_SECONDS: Final = 0.5  # where the gateway names no Retry-After
_MAX_RETRY_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.2
_SHOWN_DIFFERENCES: Final = 10

T = TypeVar("T")
V = TypeVar("V")
Send = Callable[[T], Awaitable[None]]
# Opens a connection for one worker. Send raises Unavailable for an item to be sent again.
Connect = Callable[[], AbstractAsyncContextManager[Send[T]]]


class Workload(Protocol[T]):
    """Items to be sent, and the place where all of them must be seen in the end."""

    name: str  # of the items, in the plural
    place: str  # where they arrive
    total: int  # how many are to be sent

    @property
    def done(self) -> int:
        """How many were acknowledged."""

    def items(self) -> Iterator[T]:
        """Yield the items: each becomes one request or message."""

    def request(self, item: T) -> HttpRequest:
        """Return the request for an item, which has no second effect when sent again."""

    def message(self, item: T) -> Contract:
        """Return the message for an item, which has no second effect when published again."""

    def sent(self, item: T) -> None:
        """Note that an item was acknowledged."""

    async def arrived(self) -> int:
        """Return how many have arrived. Raises as `GatewayClient.send` does."""

    async def differences(self, unsure: Sequence[T]) -> Sequence[str]:
        """Describe what is missing or there twice. Raises as `GatewayClient.send` does."""

    def summary(self) -> Sequence[str]:
        """Describe what else was seen, a line each."""


@asynccontextmanager
async def over_http(
    url: URL, client_key: str, request: Callable[[T], HttpRequest]
) -> AsyncIterator[Connect[T]]:
    """Send each item as a request; each worker has a connection of its own."""

    @asynccontextmanager
    async def connect() -> AsyncIterator[Send[T]]:
        async with GatewayClient.open(url, client_key) as client:

            async def send(item: T) -> None:
                response = await client.send(request(item))
                if response.status == HTTPStatus.MULTI_STATUS:
                    raise LoadError("the gateway accepts only a part of a batch")

            yield send

    yield connect


@asynccontextmanager
async def over_amqp(url: str, message: Callable[[T], Contract]) -> AsyncIterator[Connect[T]]:
    """Publish each item, confirmed; all workers share one connection.

    Raises LoadError when the broker cannot be reached.
    """
    async with AsyncExitStack() as stack:
        try:
            broker = await stack.enter_async_context(Broker.connect(url, "load", patience=0))
        except Unavailable as error:
            raise LoadError(str(error)) from error

        @asynccontextmanager
        async def connect() -> AsyncIterator[Send[T]]:
            async def send(item: T) -> None:
                await broker.publish(message(item))

            yield send

        yield connect


class Workers(Generic[T]):
    """Sends items over several connections at a time, and measures each response.

    An item that is refused for now is sent again with the same ids, so that it counts once. `sent`
    is called with each item that was acknowledged; `unsure` holds those that never were.
    """

    def __init__(self, items: Iterator[T], connect: Connect[T], sent: Callable[[T], None]) -> None:
        self.latencies = array("d")  # seconds; a list would need four times the memory
        self.repeats = 0
        self.unsure: list[T] = []
        self._items = items
        self._connect = connect
        self._sent = sent
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Send nothing new and nothing again; requests under way are waited for."""
        self._stopped.set()

    async def work(self, concurrency: int, within: float) -> None:
        """Send all items, or those that can be sent `within` seconds.

        Raises LoadError when no item can be sent.
        """
        timer = asyncio.get_running_loop().call_later(within, self.stop)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(self._work())
        except* Exception as errors:  # noqa: BLE001 -- the first of them is enough for a person
            raise errors.exceptions[0] from None
        finally:
            timer.cancel()

    async def _work(self) -> None:
        async with self._connect() as send:
            while not self._stopped.is_set() and (item := next(self._items, None)) is not None:
                await self._deliver(send, item)

    async def _deliver(self, send: Send[T], item: T) -> None:
        while True:
            begun = time.perf_counter()
            try:
                await send(item)
            except Unavailable as error:
                if await _is_set_within(self._stopped, _pause(error)):
                    self.unsure.append(item)
                    return
                self.repeats += 1
            else:
                self.latencies.append(time.perf_counter() - begun)
                self._sent(item)
                return


class ExitCode(IntEnum):
    """How a run ends."""

    EXACT = 0
    DIFFERENT = 1  # or not all could be sent
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """The number of workers, the seconds for each phase, and the seconds without any arrival."""

    concurrency: int
    seconds: float
    patience: float


class LoadRun(Generic[T]):
    """Sends a workload to a stack and checks that all of it arrives once."""

    def __init__(
        self, load: Workload[T], connect: Connect[T], limits: LoadLimits, progress: ProgressBar
    ) -> None:
        self._load = load
        self._limits = limits
        self._progress = progress
        self._workers = Workers(load.items(), connect, load.sent)
        self._interrupted = asyncio.Event()
        self._arrived = 0

    def interrupt(self) -> None:
        """End as soon as the requests under way are answered, without a comparison."""
        self._interrupted.set()
        self._workers.stop()

    async def run(self) -> ExitCode:
        """Run and print the result. Raises LoadError when the run cannot go on."""
        load, begun = self._load, time.perf_counter()
        async with self._progress.phase("sending", lambda: load.done, load.total):
            await self._workers.work(self._limits.concurrency, self._limits.seconds)
        print(self._sending(time.perf_counter() - begun), flush=True)
        if not self._interrupted.is_set():
            async with self._progress.phase("arriving", lambda: self._arrived, load.done):
                await self._wait(self._count, lambda arrived: arrived >= load.done)
        seconds = time.perf_counter() - begun
        differences = await self._wait(self._differences, lambda found: not found)
        if self._interrupted.is_set():
            print(f"interrupted: {load.place} was not compared with what was sent")
            return ExitCode.INTERRUPTED
        print(f"  {self._arrived:,} were in {load.place} after {_rated(self._arrived, seconds)}")
        print("\n".join(f"  {line}" for line in load.summary()))
        return self._verdict(differences or ())

    def _sending(self, seconds: float) -> str:
        load, workers = self._load, self._workers
        of = f"{load.done:,} of {load.total:,} {load.name}"
        lines = [f"{of} sent in {_rated(load.done, seconds)}"]
        lines += [f"  answered after   {report.percentiles(workers.latencies)}"]
        if workers.repeats:
            lines += [f"  {workers.repeats:,} times something had to be sent again"]
        if workers.unsure:
            lines += [f"  {len(workers.unsure):,} were never answered"]
        return "\n".join(lines)

    async def _count(self) -> int:
        self._arrived = await self._load.arrived()
        return self._arrived

    async def _differences(self) -> Sequence[str]:
        return tuple(await self._load.differences(self._workers.unsure))

    async def _wait(
        self, read: Callable[[], Awaitable[V]], is_good: Callable[[V], bool]
    ) -> V | None:
        """Read until it is good, has not changed for the patience, or the phase is over."""
        seen: V | None = None
        clock = asyncio.get_running_loop().time
        end, give_up = clock() + self._limits.seconds, clock() + self._limits.patience
        while not self._interrupted.is_set() and clock() < min(end, give_up):
            with suppress(Unavailable):  # an overloaded gateway may answer later
                found = await read()
                if is_good(found):
                    return found
                if found != seen:
                    seen, give_up = found, clock() + self._limits.patience
            await _is_set_within(self._interrupted, _POLL_SECONDS)
        return seen

    def _verdict(self, differences: Sequence[str]) -> ExitCode:
        load = self._load
        if differences:
            print(f"{load.place} does not hold what was sent; {len(differences):,} differ:")
            print("\n".join(f"  {line}" for line in differences[:_SHOWN_DIFFERENCES]))
            return ExitCode.DIFFERENT
        print(f"{load.place} holds exactly what was sent")
        if load.done < load.total:
            print(f"but only {load.done:,} of {load.total:,} could be sent in time")
            return ExitCode.DIFFERENT
        return ExitCode.EXACT


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


def _pause(error: Unavailable) -> float:
    after = error.after if isinstance(error, TryLater) else None
    return min(_RETRY_SECONDS if after is None else after, _MAX_RETRY_SECONDS)


def _rated(count: int, seconds: float) -> str:
    return f"{seconds:,.1f} s ({count / seconds:,.0f}/s)"
