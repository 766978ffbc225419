"""Tests of the turns at a relay: as many at a time as it serves best."""

import asyncio

from ops.simulator.behaviour import Behaviour
from ops.simulator.simulator import Simulator
from services.sender.smtp.adaptive_limit import Width
from services.sender.smtp.concurrency import Gate
from shared.contracts import Stage
from tests.sender.mails import a_pool, a_relay, sent

DELIVERED = [(Stage.DOT, 250)]


async def test_turns() -> None:
    """So many at a time, the others in their order."""
    gate, inside, most = Gate(Width(3)), 0, 0

    async def visit() -> None:
        nonlocal inside, most
        assert await gate.enter(5)
        inside += 1
        most = max(most, inside)
        await asyncio.wait({asyncio.create_task(asyncio.Event().wait())}, timeout=0.001)
        inside -= 1
        gate.leave()

    await asyncio.gather(*(visit() for _ in range(30)))

    assert (inside, most) == (0, 3)
    assert gate.free


async def test_all_at_once() -> None:
    """Mails that end at the same moment tell as much as those that end one after the other."""
    width = Width(100)
    gate = Gate(width)

    async def visit() -> None:
        assert await gate.enter(5)
        batch.append(asyncio.get_running_loop().create_future())
        await batch[-1]
        gate.leave()

    batch: list[asyncio.Future[None]] = []
    visits = [asyncio.create_task(visit()) for _ in range(400)]
    while not all(each.done() for each in visits):
        await asyncio.wait(visits, timeout=0.01)
        served, batch = batch, []
        for each in served:
            each.set_result(None)

    assert width.limit > 4 or width._trial is not None


async def test_too_long() -> None:
    """Who is not let in in time is told, and takes nobody's place."""
    gate = Gate(Width(1))
    await gate.enter(5)

    assert not await gate.enter(0.01)
    gate.leave()
    assert await gate.enter(5)


async def test_cancelled() -> None:
    """A turn that is called and cancelled at once goes to the next."""
    gate = Gate(Width(1))
    await gate.enter(5)
    first, second = (asyncio.create_task(gate.enter(5)) for _ in range(2))
    await asyncio.wait({first, second}, timeout=0.01)
    gate.leave()
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
    """A relay that allows few connections is not pressed again and again."""
    simulator.behaviour = Behaviour(connections=2, service_ms=10)

    async with a_pool(a_relay(simulator.smtp_port), connections=16) as pool:
        results = await asyncio.gather(*(sent(pool) for _ in range(100)))

    assert results.count(DELIVERED) >= 95
