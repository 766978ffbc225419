"""The simulator's mailbox, as its API tells it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from ops.load.door import Door, Request
from ops.load.errors import LoadError
from ops.load.mails import SHELF, Plan

_TOTAL = re.compile(rb"^x-total-count: *(\d+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A copy of a mail, for one recipient; when it came, as seconds since the epoch."""

    recipient: str
    at: float


class Mailbox:
    """Reads what has arrived."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def count(self, prefix: str) -> int:
        """Tell how many mails went to addresses that begin so. Raises what `Door.ask` does."""
        answer = await self._door.ask(_search(prefix, 1))
        total = _TOTAL.search(answer.head)
        if total is None:
            raise LoadError("what answers at the mailbox's address is no mailbox")
        return int(total[1])

    async def arrivals(self, plan: Plan) -> Sequence[Arrival]:
        """Read the mails of a run, of each shelf twice as many as it should have at the most."""
        found: list[Arrival] = []
        for shelf in plan.shelves:
            answer = await self._door.ask(_search(shelf, 2 * SHELF))
            for mail in orjson.loads(answer.body):
                at = datetime.fromisoformat(mail["received_at"]).timestamp()
                found += [Arrival(recipient, at) for recipient in mail["to"]]
        return found


def _search(part: str, limit: int) -> Request:
    return Request("GET", f"/api/messages?brief=1&limit={limit}&recipient={part}")
