"""Tests of the number of mails at a time at a relay, and of its adaptive limit."""

import asyncio
import heapq
import random

import pytest

from ops.simulator.behaviour import Behaviour
from ops.simulator.simulator import Simulator
from services.sender.smtp.concurrency import AdaptiveLimit, ConcurrencyLimiter
from shared.contracts import Stage
from tests.sender.mails import a_pool, a_relay, sent
from tests.waiting import PATIENCE_SECONDS

DELIVERED = [(Stage.DOT, 250)]


async def test_turns() -> None:
    """Mails up to the limit are let in, the others in their order."""
    gate, inside, most = ConcurrencyLimiter(AdaptiveLimit(3)), 0, 0

    async def visit() -> None:
        nonlocal inside, most
        assert await gate.acquire(PATIENCE_SECONDS)
        inside += 1
        most = max(most, inside)
        await asyncio.wait({asyncio.create_task(asyncio.Event().wait())}, timeout=0.001)
        inside -= 1
        gate.release()

    await asyncio.gather(*(visit() for _ in range(30)))

    assert (inside, most) == (0, 3)
    assert gate.has_capacity


async def test_clients_in_turn() -> None:
    """A client's first mail waits for one mail of each other client, however many they have."""
    gate, order = ConcurrencyLimiter(AdaptiveLimit(1)), list[str]()
    assert await gate.acquire(PATIENCE_SECONDS)

    async def visit(client: str | None) -> None:
        assert await gate.acquire(PATIENCE_SECONDS, client)
        order.append(client or "none")
        gate.release()

    clients = ["big"] * 50 + ["small", None]
    visits = [asyncio.create_task(visit(each)) for each in clients]
    await asyncio.wait(visits, timeout=0.01)
    gate.release()
    await asyncio.gather(*visits)

    assert order == ["big", "small", "none", *["big"] * 49]


async def test_all_at_once() -> None:
    """Mails that end at the same moment count as much as those that end one after the other."""
    width = AdaptiveLimit(100)
    gate = ConcurrencyLimiter(width)

    async def visit() -> None:
        assert await gate.acquire(PATIENCE_SECONDS)
        batch.append(asyncio.get_running_loop().create_future())
        await batch[-1]
        gate.release()

    batch: list[asyncio.Future[None]] = []
    visits = [asyncio.create_task(visit()) for _ in range(400)]
    tried = 0
    while not all(each.done() for each in visits):
        await asyncio.wait(visits, timeout=0.01)
        tried = max(tried, width.limit)
        served, batch = batch, []
        for each in served:
            each.set_result(None)

    assert tried > 4


async def test_too_long() -> None:
    """A mail that waits too long gets no place, and holds none."""
    gate = ConcurrencyLimiter(AdaptiveLimit(1))
    await gate.acquire(PATIENCE_SECONDS)

    assert not await gate.acquire(0.01)
    gate.release()
    assert await gate.acquire(PATIENCE_SECONDS)


async def test_cancelled() -> None:
    """A place that is granted and cancelled at once goes to the next mail."""
    gate = ConcurrencyLimiter(AdaptiveLimit(1))
    await gate.acquire(PATIENCE_SECONDS)
    first, second = (asyncio.create_task(gate.acquire(PATIENCE_SECONDS)) for _ in range(2))
    await asyncio.wait({first, second}, timeout=0.01)
    gate.release()
    first.cancel()
    await asyncio.wait({first})

    assert await second


async def test_knee_of_a_relay(simulator: Simulator) -> None:
    """Far more connections than the relay serves at a time are not opened, since they do not help.

    How fast it is then is measured: `python -m benchmarks knee`.
    """
    simulator.behaviour = Behaviour(service_ms=20, served_at_once=4)

    async with a_pool(a_relay(simulator.smtp_port), connections=60) as pool:
        results = await asyncio.gather(*(sent(pool) for _ in range(300)))

    assert results == [DELIVERED] * 300
    assert simulator.traffic.total < 40


async def test_asked_for_less(simulator: Simulator) -> None:
    """A relay that allows few connections is not asked for more again and again."""
    simulator.behaviour = Behaviour(connections=2, service_ms=10)

    async with a_pool(a_relay(simulator.smtp_port), connections=16) as pool:
        results = await asyncio.gather(*(sent(pool) for _ in range(100)))

    assert results.count(DELIVERED) >= 95


class Model:
    """A relay that serves so many mails at a time, each for about a fixed time."""

    def __init__(
        self, served_at_once: int, seconds: float, far: float = 0.0, spread: float = 0.2
    ) -> None:
        self.now = 0.0
        self._free = [0.0] * served_at_once
        self._seconds = seconds
        self._far = far
        self._spread = spread
        self._under_way: list[float] = []
        self._chance = random.Random(7)  # noqa: S311 -- the same at each run

    def run(self, width: AdaptiveLimit, mails: int) -> float:
        """Send as many mails at a time as the limit allows; return the mails a second."""
        begun = self.now
        for _ in range(mails):
            while len(self._under_way) < width.limit:
                self._send()
            self.now = heapq.heappop(self._under_way)
            width.completed(self.now, awaited=True)
        return mails / (self.now - begun)

    def _send(self) -> None:
        turn = max(heapq.heappop(self._free), self.now)
        served = turn + self._seconds * self._chance.uniform(1 - self._spread, 1 + self._spread)
        heapq.heappush(self._free, served)
        heapq.heappush(self._under_way, served + self._far)


@pytest.mark.parametrize("spread", [0.0, 0.2])
@pytest.mark.parametrize("far", [0.0, 0.02])
@pytest.mark.parametrize("knee", [1, 2, 3, 8, 20, 50])
def test_knee(knee: int, far: float, spread: float) -> None:
    """The limit reaches nine tenths of the relay's best throughput."""
    model, width = Model(knee, 0.1, far, spread), AdaptiveLimit(100)
    model.run(width, 20_000)

    limits = []
    for _ in range(100):
        limits.append(width.limit)
        model.run(width, 100)
    best = knee / 0.1
    needed = best * (0.1 + far)

    assert model.run(width, 5000) >= 0.9 * best
    assert sum(limits) / len(limits) <= needed * 1.5 + 2


def test_as_fast_as_it_gets() -> None:
    """A relay without a limit of its own is used with all connections."""
    model, width = Model(1000, 0.1), AdaptiveLimit(20)
    model.run(width, 20_000)

    assert model.run(width, 5000) >= 0.9 * 200


@pytest.mark.parametrize("far", [0.0, 0.02])
def test_quick_start(far: float) -> None:
    """A relay without a limit of its own gets all connections after a few doublings."""
    model, width = Model(1000, 0.04, far), AdaptiveLimit(64)

    while width.limit < 64:
        model.run(width, 1)

    assert model.now <= 20 * (0.04 + far)


@pytest.mark.parametrize("knee", [3, 5, 6, 12, 24])
def test_not_far_too_many(knee: int) -> None:
    """Doubling ends with the growth of throughput: the limit never is three times the best."""
    model, width = Model(knee, 0.1), AdaptiveLimit(1000)

    most = 0
    for _ in range(5000):
        model.run(width, 1)
        most = max(most, width.limit)

    assert most <= 3 * knee


def test_a_relay_that_changes() -> None:
    """The limit follows a relay whose capacity changes."""
    width = AdaptiveLimit(100)
    for knee in (4, 16, 4):
        model = Model(knee, 0.1)
        width._begin(0.0)
        model.run(width, 20_000)

        assert model.run(width, 5000) >= 0.9 * knee / 0.1


def test_pushed_back() -> None:
    """A relay that asks for less gets half, once for all mails that were under way."""
    width = AdaptiveLimit(100)
    Model(1000, 0.1).run(width, 20_000)
    before = width.limit

    for _ in range(10):
        width.pushed_back(1000.0)

    assert width.limit == before // 2


def test_never_nothing() -> None:
    """However often a relay asks for less, the limit stays at 1 or more."""
    width = AdaptiveLimit(100)
    for number in range(100):
        width.pushed_back(1000.0 * number)

    assert width.limit == 1


def test_idle() -> None:
    """Mails that no other mail waited for are no measurement."""
    width = AdaptiveLimit(100)
    for number in range(1000):
        width.completed(number * 10.0, awaited=False)

    assert width.limit == 4
