"""The stack's own RabbitMQ: started, watched, started again when it dies, ended in good order."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

from ops.broker import Broker, BrokerError
from ops.process import Restarts
from ops.stack.journal import Journal


@asynccontextmanager
async def kept(broker: Broker, journal: Journal) -> AsyncIterator[None]:
    """Run a broker for the length of the block. Raises BrokerError when it does not start."""
    # The kernel ends a tethered process with the thread that has started it: so one thread does,
    # which lives longer.
    with ThreadPoolExecutor(1, "broker") as starter:
        keeping: asyncio.Task[None] | None = None
        try:
            await _start(broker, starter)
            keeping = asyncio.create_task(_keep(broker, journal, starter), name="keep RabbitMQ")
            yield
        finally:
            if keeping is not None:
                keeping.cancel()
                with suppress(asyncio.CancelledError):
                    await keeping
            # Not by the starter, which may be waiting for a start that this ends.
            await asyncio.to_thread(broker.stop)


async def _start(broker: Broker, starter: ThreadPoolExecutor) -> None:
    await asyncio.get_running_loop().run_in_executor(starter, broker.start)


async def _keep(broker: Broker, journal: Journal, starter: ThreadPoolExecutor) -> None:
    """Start it again whenever it dies, until cancelled; its clients come back by themselves."""
    loop, restarts = asyncio.get_running_loop(), Restarts()
    while True:
        born = loop.time()
        how = await asyncio.to_thread(broker.join)
        pause = restarts.pause(loop.time() - born)
        journal.say(f"postrider: RabbitMQ {how}: starting it again in {pause:g} seconds")
        await asyncio.sleep(pause)
        try:
            await _start(broker, starter)
        except BrokerError as error:
            journal.say(f"postrider: {error}")
        else:
            journal.say("postrider: RabbitMQ runs again")
