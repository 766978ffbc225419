"""The long wire."""

import asyncio

from ops.simulator.wire import Wire


async def test_order() -> None:
    """What is sent later never arrives earlier, even if the delay falls to nothing."""
    arrived: list[int] = []
    last = asyncio.Event()
    wire = Wire(asyncio.get_running_loop())

    wire.carry(lambda: arrived.append(1), 0.05)
    wire.carry(lambda: arrived.append(2), 0.01)
    wire.carry(last.set, 0)
    assert arrived == []
    async with asyncio.timeout(5):
        await last.wait()

    assert arrived == [1, 2]


async def test_at_once() -> None:
    """Without a delay the wire costs no turn of the loop."""
    arrived: list[int] = []

    Wire(asyncio.get_running_loop()).carry(lambda: arrived.append(1), 0)

    assert arrived == [1]


async def test_cut() -> None:
    """What is under way when the wire is cut never arrives."""
    arrived: list[int] = []
    last = asyncio.Event()
    loop = asyncio.get_running_loop()
    wire = Wire(loop)

    wire.carry(lambda: arrived.append(1), 0.01)
    wire.cut()
    loop.call_later(0.02, last.set)
    async with asyncio.timeout(5):
        await last.wait()

    assert arrived == []
