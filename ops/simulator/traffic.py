"""Counts what clients do, for tests that ask how they behaved."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ops.simulator.change import ChangeSignal

VISITS_KEPT: Final = 1000  # the oldest are forgotten first
COMMANDS_KEPT: Final = 1000  # of each visit, the newest


@dataclass(slots=True)
class SmtpSession:
    """One connection, from accept to close."""

    number: int
    open: bool = True
    encrypted: bool = False
    authenticated: bool = False
    mails: int = 0
    commands: deque[str] = field(default_factory=lambda: deque(maxlen=COMMANDS_KEPT))


class Traffic:
    """All visits: how many are `open`, how many there were, what they said."""

    def __init__(self) -> None:
        self.open = 0
        self.total = 0
        self.commands: Counter[str] = Counter()
        self.visits: deque[SmtpSession] = deque(maxlen=VISITS_KEPT)
        self.change = ChangeSignal()

    def arrive(self) -> SmtpSession:
        """Begin a visit."""
        self.open += 1
        self.total += 1
        visit = SmtpSession(self.total)
        self.visits.append(visit)
        self.change.announce()
        return visit

    def leave(self, visit: SmtpSession) -> None:
        """End a visit; a second time changes nothing."""
        if visit.open:
            visit.open = False
            self.open -= 1
            self.change.announce()

    def saw(self, visit: SmtpSession, verb: str) -> None:
        """Note a command."""
        visit.commands.append(verb)
        self.commands[verb] += 1
        self.change.announce()

    async def wait_until(self, holds: Callable[[], bool], within: float = 5.0) -> None:
        """Return once `holds()`; raise TimeoutError after `within` seconds."""
        await self.change.wait_until(holds, within)
