"""Pure: what a server can do beyond plain SMTP, as it told after EHLO."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from services.sender.mail.compose import OutgoingMail
from services.sender.outcome import FailureReason, Unsendable

_NUMBER = re.compile(r"[0-9]{1,20}")  # RFC 1870 4


@dataclass(frozen=True, slots=True)
class Extensions:
    """The extensions that matter to us. A number that is not given is no limit."""

    pipelining: bool = False  # RFC 2920
    smtputf8: bool = False  # RFC 6531
    sized: bool = False  # RFC 1870: MAIL may tell the size
    dsn: bool = False  # RFC 3461: reports may be asked for in a form to count on
    size: int | None = None
    mails: int | None = None  # RFC 9422: transactions of one connection
    recipients: int | None = None  # the same: of one transaction
    domains: int | None = None  # the same: of recipients, over one connection

    @classmethod
    def read(cls, extensions: Mapping[str, str]) -> Self:
        """Read the extensions, parameters by keyword; the keywords in small letters."""
        limits = dict(_assignment(word) for word in extensions.get("limits", "").split())
        return cls(
            pipelining="pipelining" in extensions,
            smtputf8="smtputf8" in extensions,
            sized="size" in extensions,
            dsn="dsn" in extensions,
            size=_limit(extensions.get("size", "")),
            mails=_limit(limits.get("MAILMAX", "")),
            recipients=_limit(limits.get("RCPTMAX", "")),
            domains=_limit(limits.get("RCPTDOMAINMAX", "")),
        )

    def reaches(self, mail: OutgoingMail) -> tuple[str, ...]:
        """Return the recipients that the server can serve with its extensions."""
        return mail.recipients if self.smtputf8 else mail.within_ascii

    def objection(self, mail: OutgoingMail) -> Unsendable | None:
        """Return why no recipient of this mail can be served (RFC 6531 3.5, RFC 1870 5)."""
        if not self.reaches(mail):
            return Unsendable(FailureReason.SMTPUTF8_NOT_OFFERED)
        if self.size is not None and self.size < len(mail.content):
            return Unsendable(FailureReason.TOO_BIG)
        return None


def _assignment(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name.upper(), value


def _limit(text: str) -> int | None:
    """Give a number; 0 is no limit (RFC 1870 4), and so is what nobody can read."""
    return (int(text) or None) if _NUMBER.fullmatch(text) else None


LOCK_STEP_SECONDS = 600.0  # for which a relay that could not cope hears one command at a time
STUMBLES = 10  # in a row that are believed of a relay that has coped before


class Pipelining:
    """How a relay has coped with groups of commands, by how many recipients they were for.

    A relay that drops early commands does so always, and one with a small buffer with large groups.
    But a mail of any client may end without a reply too. So a group of a size that the relay has
    coped with before counts as its mistake only many times in a row. Times are in seconds of one
    clock.
    """

    def __init__(self) -> None:
        self._largest = 0  # recipients of a group that it has coped with
        self._in_a_row = 0
        self._too_large = 0
        self._until = 0.0

    def copes(self, recipients: int, now: float) -> bool:
        """Return whether commands for so many may go out in one group."""
        return now >= self._until or recipients < self._too_large

    def coped(self, recipients: int) -> None:
        """Note that there was a reply to each command of a group."""
        self._in_a_row = 0
        self._largest = max(self._largest, recipients)

    def stumbled(self, recipients: int, now: float) -> None:
        """Note that replies to a group were missing, or were those of other commands."""
        self._in_a_row += 1
        if self._in_a_row >= STUMBLES:
            self._largest = 0
        if recipients > self._largest:
            self._too_large, self._until = self._largest + 1, now + LOCK_STEP_SECONDS
