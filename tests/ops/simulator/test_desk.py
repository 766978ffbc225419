"""The desk where mails are served."""

import asyncio

from ops.simulator.desk import Desk


async def test_first_come() -> None:
    """Those who wait are served in the order they came."""
    desk = Desk(places=1, seconds=0.002)
    served: list[int] = []

    async def mail(number: int) -> None:
        await desk.serve()
        served.append(number)

    await asyncio.gather(*(mail(number) for number in range(10)))

    assert served == list(range(10))


async def test_unlimited() -> None:
    """Without a number of places nobody queues."""
    desk = Desk(places=None, seconds=0.1)
    loop = asyncio.get_running_loop()
    began = loop.time()

    await asyncio.gather(*(desk.serve() for _ in range(50)))

    assert 0.099 <= loop.time() - began < 5  # 50 in turn would take as long
