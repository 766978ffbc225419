"""The mails that the simulator has received, in memory and on disk; and its sessions, for tests."""

import asyncio
import itertools
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ops.simulator.mail import StoredMail

MAILS_KEPT: Final = 10_000
OCTETS_KEPT: Final = 256 * 2**20
# A recipient's address and its entry in the index take some 500 octets of memory.
RECIPIENT_OCTETS: Final = 500
SESSIONS_KEPT: Final = 1000  # the oldest are dropped first
COMMANDS_KEPT: Final = 1000  # of each session, the newest


class ChangeSignal:
    """Wakes the tasks that wait for a change, so that they need not poll."""

    def __init__(self) -> None:
        self.version = 0
        self._changed = asyncio.Event()

    def announce(self) -> None:
        """Signal a change."""
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()

    async def wait_until(self, holds: Callable[[], bool], within: float = 60.0) -> None:
        """Return once `holds()`; raise TimeoutError after `within` seconds."""
        async with asyncio.timeout(within):
            while not holds():
                await self.wait()


@dataclass(slots=True)
class SmtpSession:
    """The commands and mails of one client on one connection."""

    number: int
    open: bool = True
    encrypted: bool = False
    authenticated: bool = False
    mails: int = 0
    commands: deque[str] = field(default_factory=lambda: deque(maxlen=COMMANDS_KEPT))


class Traffic(ChangeSignal):
    """All sessions: how many are `open`, how many there were in `total`, and their commands."""

    def __init__(self) -> None:
        super().__init__()
        self.open = 0
        self.total = 0
        self.commands: Counter[str] = Counter()
        self.sessions: deque[SmtpSession] = deque(maxlen=SESSIONS_KEPT)

    def open_session(self) -> SmtpSession:
        """Return a new session."""
        self.open += 1
        self.total += 1
        session = SmtpSession(self.total)
        self.sessions.append(session)
        self.announce()
        return session

    def close_session(self, session: SmtpSession) -> None:
        """Close a session. A second call changes nothing."""
        if session.open:
            session.open = False
            self.open -= 1
            self.announce()

    def count_command(self, session: SmtpSession, verb: str) -> None:
        """Count a command."""
        session.commands.append(verb)
        self.commands[verb] += 1
        self.announce()


class MailArchive:
    """Mails in a directory: `<id>.eml` has the octets of one, and `<id>.json` its envelope.

    The envelope is written last: a mail without one is incomplete and is ignored. Files are not
    synced; a power cut may lose the last mails.
    """

    def __init__(self, directory: Path) -> None:
        """Create the directory if it is missing. Raises OSError."""
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def load(self) -> Iterator[StoredMail]:
        """Yield the mails, oldest first; other files are ignored."""
        for path in sorted(self._directory.glob("*.json")):
            try:
                yield _read(path)
            except (OSError, ValueError, KeyError, TypeError):
                continue

    def save(self, mail: StoredMail) -> None:
        """Write a mail. Raises OSError."""
        envelope = {
            "sender": mail.sender,
            "recipients": mail.recipients,
            "received_at": mail.received_at.isoformat(),
        }
        self._path(mail, "eml").write_bytes(mail.raw)
        self._path(mail, "json").write_text(json.dumps(envelope), encoding="utf-8")

    def remove(self, mail: StoredMail) -> None:
        """Delete the files of a mail, if they are there."""
        self._path(mail, "json").unlink(missing_ok=True)
        self._path(mail, "eml").unlink(missing_ok=True)

    def _path(self, mail: StoredMail, suffix: str) -> Path:
        return self._directory / f"{mail.id}.{suffix}"


def _read(path: Path) -> StoredMail:
    envelope = json.loads(path.read_text(encoding="utf-8"))
    return StoredMail(
        id=path.stem,
        sender=str(envelope["sender"]),
        recipients=tuple(map(str, envelope["recipients"])),
        received_at=datetime.fromisoformat(envelope["received_at"]),
        raw=path.with_suffix(".eml").read_bytes(),
    )


class Mailbox:
    """Keeps a limited number of mails and octets; the oldest are removed first.

    The recipients of a mail count as octets too: there may be thousands. `change` signals each mail
    that is added or removed.
    """

    def __init__(
        self,
        archive: MailArchive | None = None,
        limit: int = MAILS_KEPT,
        octets: int = OCTETS_KEPT,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.change = ChangeSignal()
        self._archive = archive
        self._limit = limit
        self._octets_limit = octets
        self._now = now
        self._octets = 0
        self._mails: dict[str, StoredMail] = {}
        self._by_recipient: dict[str, dict[str, StoredMail]] = {}
        self._numbers = itertools.count(1)
        self._load()

    def __len__(self) -> int:
        return len(self._mails)

    def keep(self, sender: str, recipients: Sequence[str], raw: bytes) -> StoredMail:
        """Add one mail and return it. Raises OSError if it cannot be written."""
        received_at = self._now()
        mail_id = f"{received_at:%Y%m%dT%H%M%S}-{next(self._numbers):06d}"
        mail = StoredMail(mail_id, sender, tuple(recipients), received_at, raw)
        if self._archive:
            self._archive.save(mail)
        self._add(mail)
        self.change.announce()
        return mail

    def get(self, mail_id: str) -> StoredMail | None:
        """Return the mail with this id."""
        return self._mails.get(mail_id)

    def count(self, to: str | None = None) -> int:
        """Count the mails, all or those to one recipient of the envelope."""
        if to is None:
            return len(self._mails)
        return len(self._by_recipient.get(to.lower(), ()))

    def find(self, to: str | None = None) -> list[StoredMail]:
        """Return the mails, newest first; `to` is compared without regard to case."""
        mails = self._mails if to is None else self._by_recipient.get(to.lower(), {})
        return list(reversed(mails.values()))

    def remove(self, mails: Iterable[StoredMail]) -> None:
        """Remove these mails, on disk too; those that are gone already are ignored."""
        for mail in mails:
            if mail.id in self._mails:
                self._remove(mail)
        self.change.announce()

    async def wait_for(
        self, count: int, *, to: str | None = None, within: float = 60.0
    ) -> list[StoredMail]:
        """Return the mails, newest first, once there are at least `count` of them.

        Raises TimeoutError after `within` seconds, with the number of mails.
        """
        try:
            await self.change.wait_until(lambda: self.count(to) >= count, within)
        except TimeoutError:
            whose = "" if to is None else f" for {to}"
            raise TimeoutError(
                f"{self.count(to)} of {count} mails{whose} within {within} s"
            ) from None
        return self.find(to)

    def _load(self) -> None:
        if self._archive is None:
            return
        for mail in self._archive.load():
            self._add(mail)
        last = next(reversed(self._mails), "0").rpartition("-")[2]
        self._numbers = itertools.count(int(last) + 1 if last.isdecimal() else 1)

    def _add(self, mail: StoredMail) -> None:
        self._mails[mail.id] = mail
        self._octets += _octets(mail)
        for recipient in mail.recipients:
            self._by_recipient.setdefault(recipient.lower(), {})[mail.id] = mail
        while self._is_full():
            self._remove(next(iter(self._mails.values())))

    def _is_full(self) -> bool:
        too_many = len(self._mails) > self._limit
        return too_many or (len(self._mails) > 1 and self._octets > self._octets_limit)

    def _remove(self, mail: StoredMail) -> None:
        del self._mails[mail.id]
        self._octets -= _octets(mail)
        for recipient in {recipient.lower() for recipient in mail.recipients}:
            mails = self._by_recipient[recipient]
            del mails[mail.id]
            if not mails:
                del self._by_recipient[recipient]
        if self._archive:
            self._archive.remove(mail)


def _octets(mail: StoredMail) -> int:
    return len(mail.raw) + RECIPIENT_OCTETS * len(mail.recipients)
