"""The road of questions: those that wait are answered together, and none is tried again."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog

from shared import delivery, settling
from shared.consumer import HANDLING_SECONDS
from shared.contracts import Contract, Question
from shared.delivery import Delivery
from shared.errors import Reject, Retry, Undecodable
from shared.runtime import log, metrics
from shared.settling import End, Receipt, Send

QuestionsHandler = Callable[[Sequence[Any]], Awaitable[Sequence[Sequence[Contract]]]]

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Questions:
    """Which handler takes the questions of a queue, all that wait in one call.

    It gives what each of them leads to, in their order. `limit` is in seconds, for one call. What
    fails is not answered: who asked asks again, or has gone. A failure other than Retry may be
    that of one question alone, so then each half is handled by itself.
    """

    queue: str
    contracts: tuple[type[Question], ...]
    handler: QuestionsHandler
    prefetch: int
    limit: float = HANDLING_SECONDS


class _Waiting(NamedTuple):
    message: Delivery
    receipt: Receipt


class _Read(NamedTuple):
    message: Delivery
    question: Contract


class Answering:
    """Answers the questions of one subscription, one turn after the other.

    The more there are, the longer is a turn, and the less does each of them cost.
    """

    def __init__(self, subscription: Questions, send: Send) -> None:
        self._subscription = subscription
        self._send = send
        self._waiting: list[_Waiting] = []
        self._turn: list[_Waiting] = []  # what is being handled
        self._task: asyncio.Task[None] | None = None
        self._metrics = metrics.Handling(subscription.queue)

    def take(self, message: Delivery, receipt: Receipt) -> None:
        """Put a question into the next turn."""
        self._waiting.append(_Waiting(message, receipt))
        if self._task is None or self._task.done():
            # It begins after what comes in this turn of the loop.
            self._task = asyncio.create_task(self._work(), name=message.queue)

    async def drain(self, deadline: float) -> None:
        """Wait up to `deadline` seconds for what has come, then leave the rest to the broker."""
        if self._task is not None and await settling.drained({self._task}, deadline):
            settling.left(self._subscription.queue, len(self._turn) + len(self._waiting))

    async def cut(self) -> None:
        """End at once, and leave what is not answered to the broker."""
        if self._task is not None and await settling.cut({self._task}):
            settling.left(self._subscription.queue, len(self._turn) + len(self._waiting))

    async def _work(self) -> None:
        """Handle what waits; it ends when nothing does."""
        log.bind({"queue": self._subscription.queue})
        while self._waiting:
            # What a lost channel gave comes again; all others are of the one channel there is.
            self._turn = [each for each in self._waiting if not each.receipt.void]
            self._waiting = []
            await self._settle(self._turn)

    async def _settle(self, turn: Sequence[_Waiting]) -> None:
        if not turn:
            return
        begun, last = time.perf_counter(), turn[-1].receipt
        self._metrics.in_flight.inc(len(turn))
        try:
            ends = await self._handled([message for message, _ in turn])
            publishings = [item for end in ends for item in end.publishings]
            if await settling.published(publishings, last, self._send):
                # Turns end in their order: all before this one are settled.
                settling.acknowledge(last, multiple=True)
        except Exception as error:  # noqa: BLE001 -- told there
            settling.give_back(last, error, multiple=True)
            return
        finally:
            self._metrics.in_flight.dec(len(turn))
        seconds = time.perf_counter() - begun
        for end in ends:
            self._metrics.ended(end.name, seconds, end.count)

    async def _handled(self, messages: Sequence[Delivery]) -> Sequence[End]:
        ends: list[End] = []
        reads: list[_Read] = []
        for message in messages:
            try:
                question = delivery.contract(message, self._subscription.contracts)
                reads.append(_Read(message, question))
            except Undecodable as error:
                ends.append(_unanswered(message, error))
        return [*ends, *(await self._together(reads) if reads else ())]

    async def _together(self, reads: Sequence[_Read]) -> list[End]:
        """Give the ends of some questions. Only a cancellation from outside comes through."""
        try:
            returned = await self._handle([each.question for each in reads])
            publishings = [
                item
                for (message, _), led_to in zip(reads, returned, strict=True)
                for item in delivery.finished(message, led_to, settling.draw_jitter())
            ]
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and settling.cancelled_from_outside():
                raise
            if isinstance(error, Retry) or len(reads) == 1:
                return [_unanswered(each.message, error) for each in reads]
            middle = len(reads) // 2
            halves = (reads[:middle], reads[middle:])
            return [end for half in halves for end in await self._together(half)]
        return [End("done", publishings, len(reads))]

    async def _handle(self, questions: Sequence[Contract]) -> Sequence[Sequence[Contract]]:
        subscription = self._subscription
        async with settling.within(subscription.limit):
            return await subscription.handler(questions)


def _unanswered(message: Delivery, error: BaseException) -> End:
    match error:
        case Undecodable() | Retry() | Reject():
            logger.warning("not answered", id=message.message_id[:100], reason=str(error))
        case _:
            logger.error("not answered", id=message.message_id[:100], exc_info=error)
    return End("unanswered", ())
