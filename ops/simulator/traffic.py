"""Counts the connections and commands of clients, for tests."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ops.simulator.change import ChangeSignal

SESSIONS_KEPT: Final = 1000  # the oldest are dropped first
COMMANDS_KEPT: Final = 1000  # of each session, the newest


@dataclass(slots=True)
class SmtpSession:
    """The commands and mails of one client on one connection."""

    number: int
    open: bool = True
    encrypted: bool = False
    authenticated: bool = False
    mails: int = 0
    commands: deque[str] = field(default_factory=lambda: deque(maxlen=COMMANDS_KEPT))


class Traffic:
    """All sessions: how many are `open`, how many there were in `total`, and their commands."""

    def __init__(self) -> None:
        self.open = 0
        self.total = 0
        self.commands: Counter[str] = Counter()
        self.sessions: deque[SmtpSession] = deque(maxlen=SESSIONS_KEPT)
        self.change = ChangeSignal()

    def open_session(self) -> SmtpSession:
        """Return a new session."""
        self.open += 1
        self.total += 1
        session = SmtpSession(self.total)
        self.sessions.append(session)
        self.change.announce()
        return session

    def close_session(self, session: SmtpSession) -> None:
        """Close a session. A second call changes nothing."""
        if session.open:
            session.open = False
            self.open -= 1
            self.change.announce()

    def count_command(self, session: SmtpSession, verb: str) -> None:
        """Count a command."""
        session.commands.append(verb)
        self.commands[verb] += 1
        self.change.announce()

    async def wait_until(self, holds: Callable[[], bool], within: float = 5.0) -> None:
        """Wait until `holds()`. Raises TimeoutError after `within` seconds."""
        await self.change.wait_until(holds, within)
