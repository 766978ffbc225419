"""Reading dead letters for a page, and sending them back or dropping them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import NamedTuple

from shared import dead_letter
from shared.broker import Broker, DeadLetterQueue
from shared.dead_letter import DeadLetter
from shared.errors import Unavailable
from shared.inflight import DeliveryTag
from shared.retry import DELAYS

MAX_SHOWN = 200  # dead letters of one page; each is read with its body
MAX_ACTED = 10_000  # of one action
MAX_NAMED = 10  # ids of one action that the audit has
# After it has closed a channel the broker puts back, in its own time, what was read there: a page
# that came at once would miss it.
MAX_LOOKS, LOOK_SECONDS = 50, 0.1


@dataclass(frozen=True, slots=True)
class LetterSummary:
    """A dead letter without its body."""

    id: str
    type: str
    cause: str
    reason: str
    origin: str | None
    died_at: datetime | None
    can_return: bool
    is_mail: bool  # of a sender


class LetterGroup(NamedTuple):
    """Dead letters of one cause and reason, the first that was read first."""

    cause: str
    reason: str
    letters: Sequence[LetterSummary]


class LettersRead(NamedTuple):
    """The groups of those that were read, the largest first, and how many there are in all."""

    waiting: int
    groups: Sequence[LetterGroup]

    @property
    def shown(self) -> int:
        """How many were read."""
        return sum(len(each.letters) for each in self.groups)


class LettersMoved(NamedTuple):
    """The numbers of letters that an action moved, and of those that it had to keep."""

    moved: int
    kept: int
    ids: Sequence[str] = ()  # the first ones that were moved


Selects = Callable[[DeadLetter], bool]
Move = Callable[[DeadLetter, DeliveryTag], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """The dead letters, one reader at a time: while one reads, no other sees what it has read.

    Methods raise Unavailable.
    """

    broker: Broker
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self, queue: str) -> LettersRead:
        """Return the first MAX_SHOWN letters of a queue by cause and reason."""
        groups: dict[tuple[str, str], list[LetterSummary]] = {}
        count = 0
        async with self._browsing(queue) as browsed:
            async for letter, _ in browsed.letters:
                groups.setdefault((letter.cause, letter.reason), []).append(_summary(letter))
                count += 1
                if count >= MAX_SHOWN:
                    break
            waiting = browsed.waiting
        await self._returned(queue, waiting)
        found = [LetterGroup(*alike, letters) for alike, letters in groups.items()]
        return LettersRead(waiting, sorted(found, key=lambda each: -len(each.letters)))

    async def find(self, queue: str, identifier: str) -> DeadLetter | None:
        """Return the letter of an id, None if there is none."""
        found, waiting = None, 0
        async with self._browsing(queue) as browsed:
            waiting = browsed.waiting
            async for letter, _ in browsed.letters:
                if letter.delivery.message_id == identifier:
                    found = letter
                    break
        await self._returned(queue, waiting)
        return found

    async def replay(self, queue: str, selects: Selects) -> LettersMoved:
        """Send letters back to the queues that they came from, where they begin anew."""
        move = partial(self.broker.send_back, delay=DELAYS[0])
        return await self._move(queue, selects, move)

    async def drop(self, queue: str, selects: Selects) -> LettersMoved:
        """Delete letters for good."""
        return await self._move(queue, selects, _drop)

    async def _move(self, queue: str, selects: Selects, move: Move) -> LettersMoved:
        moved, kept, waiting = 0, 0, 0
        ids: list[str] = []
        async with self._browsing(queue) as browsed:
            waiting = browsed.waiting
            async for letter, tag in browsed.letters:
                if not selects(letter):
                    continue
                if await move(letter, tag):
                    moved += 1
                    ids += [letter.delivery.message_id] if moved <= MAX_NAMED else []
                else:
                    kept += 1
                if moved >= MAX_ACTED:
                    break
        await self._returned(queue, waiting - moved)
        return LettersMoved(moved, kept, ids)

    async def _returned(self, queue: str, count: int) -> None:
        """Wait until a queue has so many letters again, for a few seconds at most."""
        for _ in range(MAX_LOOKS):
            state = (await self.broker.queue_states([queue]))[queue]
            if state is None or state.waiting >= count:
                return
            await asyncio.sleep(LOOK_SECONDS)

    @asynccontextmanager
    async def _browsing(self, queue: str) -> AsyncIterator[DeadLetterQueue]:
        if queue not in dead_letter.dead_queues():
            raise Unavailable(f"{queue[:100]} is no queue of dead letters")
        async with self.reading, self.broker.browsing(queue) as browsed:
            yield browsed


async def _drop(_: DeadLetter, tag: DeliveryTag) -> bool:
    tag.ack()
    return True


def by_id(identifier: str) -> Selects:
    """Return the selection of one letter by its id."""
    return lambda letter: letter.delivery.message_id == identifier


def by_cause(cause: str, reason: str) -> Selects:
    """Return the selection of all letters of one cause and reason."""
    return lambda letter: (letter.cause, letter.reason) == (cause, reason)


def _summary(letter: DeadLetter) -> LetterSummary:
    return LetterSummary(
        *(letter.delivery.message_id, letter.delivery.type, letter.cause, letter.reason),
        *(letter.origin, letter.died_at, dead_letter.can_return(letter)),
        dead_letter.is_mail(letter),
    )
