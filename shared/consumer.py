"""The road of one delivery: decode, handle, publish what was returned, then acknowledge."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared import delivery, log, metrics, settling
from shared.contracts import Contract
from shared.delivery import Delivery
from shared.retry import Later
from shared.settling import End, Receipt, Send

HANDLING_SECONDS = 60.0  # a time limit of one handler, unless its subscription says otherwise

Handler = Callable[[Any], Awaitable[Sequence[Contract | Later]]]


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which handler takes which contract of a queue, how many at a time, for how long each.

    `limit` is in seconds and must stay well under the broker's consumer time-out of 30 minutes.
    """

    queue: str
    handlers: Mapping[type[Contract], Handler]
    prefetch: int
    limit: float = HANDLING_SECONDS
    keeps_failures: bool = True  # False for questions: nobody waits for a late answer


class Consumer:
    """Handles the deliveries of one subscription, each in a task of its own."""

    def __init__(self, subscription: Subscription, send: Send) -> None:
        self._subscription = subscription
        self._send = send
        self._tasks: set[asyncio.Task[None]] = set()
        self._metrics = metrics.Handling(subscription.queue)

    def take(self, message: Delivery, receipt: Receipt) -> None:
        """Start to handle a delivery; it is finished even when the channel that gave it is gone."""
        task = asyncio.create_task(self._settle(message, receipt), name=message.queue)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, deadline: float) -> None:
        """Wait up to `deadline` seconds for what is in flight, then cancel the rest.

        What is cancelled was not acknowledged, so the broker delivers it again.
        """
        late = await settling.drained(self._tasks, deadline)
        settling.left(self._subscription.queue, late)

    async def _settle(self, message: Delivery, receipt: Receipt) -> None:
        log.bind({"queue": message.queue, "type": message.type, "id": message.message_id[:100]})
        begun = time.perf_counter()
        self._metrics.in_flight.inc()
        try:
            end = await self._handled(message)
            if await settling.published(end.publishings, receipt, self._send):
                settling.acknowledge(receipt)
        except Exception as error:  # noqa: BLE001 -- told there
            settling.give_back(receipt, error)
            return
        finally:
            self._metrics.in_flight.dec()
        self._metrics.ended(end.name, time.perf_counter() - begun)

    async def _handled(self, message: Delivery) -> End:
        """Run the handler and name the end. Only a cancellation from outside comes through."""
        try:
            returned = await self._handle(message)
            publishings = delivery.finished(message, returned, settling.draw())
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and settling.cancelled_from_outside():
                raise
            end = settling.failed(message, error)
            return end if self._subscription.keeps_failures else End(end.name, ())
        return End("done", publishings)

    async def _handle(self, message: Delivery) -> Sequence[Contract | Later]:
        handlers = self._subscription.handlers
        contract = delivery.contract(message, tuple(handlers))
        handler = handlers[type(contract)]
        async with settling.within(self._subscription.limit):
            return await handler(contract)
