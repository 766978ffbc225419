"""What the broker has said of the messages that were published on one channel."""

import asyncio
from itertools import takewhile
from typing import NamedTuple

from shared.amqp.errors import Closed, Nacked, Returned, Unconfirmed

CONFIRM_SECONDS = 5.0


class Mark(NamedTuple):
    """What the broker tells of a message that it returns."""

    message_id: str | None
    exchange: str
    routing_key: str


class _Pending(NamedTuple):
    """A message of which the broker has said nothing yet; with a mark if it must be taken."""

    confirm: asyncio.Future[None]
    mark: Mark | None
    deadline: float


class Confirms:
    """The messages under way: numbered by us as the broker numbers them, from 1."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._published = 0
        self._pending: dict[int, _Pending] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    def expect(self, mark: Mark | None) -> asyncio.Future[None]:
        """Give the future of the next message's confirm; no mark for one that may get lost."""
        confirm = self._loop.create_future()
        deadline = self._loop.time() + CONFIRM_SECONDS
        self._published += 1
        self._pending[self._published] = _Pending(confirm, mark, deadline)
        # One timer for all, since they were published in the order of their deadlines.
        if self._sweeper is None:
            self._sweeper = self._loop.call_at(deadline, self._sweep)
        return confirm

    def settle(self, tag: int, *, multiple: bool, kept: bool) -> None:
        """Take the broker's word on a message; with `multiple` on all up to it."""
        tags = list(takewhile(tag.__ge__, self._pending)) if multiple else [tag]
        for each in tags:
            pending = self._pending.pop(each, None)
            if pending is None or pending.confirm.done():
                continue
            if kept:
                pending.confirm.set_result(None)
            else:
                pending.confirm.set_exception(Nacked("the broker does not keep the message"))

    def returned(self, mark: Mark, reason: str) -> None:
        """Fail the message that no queue takes: its confirm follows, and means nothing.

        Two of one mark under way at once are one message, and come back both, each once.
        """
        for tag, pending in self._pending.items():
            if pending.mark == mark:
                del self._pending[tag]
                if not pending.confirm.done():
                    pending.confirm.set_exception(Returned(reason))
                return

    def fail(self, reason: str) -> None:
        """Fail all, since no more confirms will come."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for pending in self._pending.values():
            if not pending.confirm.done():
                pending.confirm.set_exception(Closed(reason))
        self._pending.clear()

    def _sweep(self) -> None:
        """Fail what is late and forget it: a broker that has got stuck may never confirm it."""
        self._sweeper, now = None, self._loop.time()
        for tag, pending in list(self._pending.items()):
            if pending.deadline > now:
                self._sweeper = self._loop.call_at(pending.deadline, self._sweep)
                return
            del self._pending[tag]
            if not pending.confirm.done():
                pending.confirm.set_exception(
                    Unconfirmed(f"not confirmed within {CONFIRM_SECONDS:g} s")
                )
