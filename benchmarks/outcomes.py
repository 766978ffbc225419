"""What the sender told of its mails, read where a running stack has it wait for the classifier.

A queue of our own on the events would cost the broker another copy of each, and a consumer that
listens during the measurement would take the time of a core.
"""

import asyncio
from collections.abc import Sequence

from benchmarks.errors import BenchError
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import EmailDelivered
from shared.topology import EVIDENCE

_READ_SECONDS = 60.0
_PREFETCH = 200


async def read(broker: Broker, count: int) -> Sequence[EmailDelivered]:
    """Take the outcomes of `count` mails. Raises BenchError when there are more or fewer."""
    found: list[EmailDelivered] = []
    complete = asyncio.Event()

    async def on_delivered(event: EmailDelivered) -> Sequence[EmailDelivered]:
        found.append(event)
        if len(found) == count:
            complete.set()
        return ()

    there = await waiting(broker, EVIDENCE)
    if there != count:
        raise BenchError(f"{there} outcomes of {count} mails")
    subscription = Subscription(EVIDENCE, {EmailDelivered: on_delivered}, prefetch=_PREFETCH)
    try:
        async with asyncio.timeout(_READ_SECONDS), broker.consuming(subscription):
            await complete.wait()
    except TimeoutError:
        raise BenchError(f"only {len(found)} of {count} mails were delivered") from None
    return found


async def waiting(broker: Broker, queue: str) -> int:
    """Tell how many messages wait in a queue."""
    async with broker.browsing(queue) as pile:
        return pile.waiting
