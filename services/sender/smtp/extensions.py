"""The extensions that a server offers after EHLO, and its history of pipelined commands."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from services.sender.mail.compose import OutgoingMail
from services.sender.outcome import FailureReason, Unsendable

_NUMBER = re.compile(r"[0-9]{1,20}")  # RFC 1870 4
LOCK_STEP_SECONDS = 600.0  # of one command at a time, after a relay has failed at a group
MAX_FAILURES = 10  # in a row, after which a size that has worked before is not trusted any more


@dataclass(frozen=True, slots=True)
class Extensions:
    """The extensions of a server that matter here. None is no limit."""

    pipelining: bool = False  # RFC 2920
    smtputf8: bool = False  # RFC 6531
    sized: bool = False  # RFC 1870: MAIL may have the size
    dsn: bool = False  # RFC 3461: reports have a reliable form
    size: int | None = None
    mails: int | None = None  # RFC 9422: transactions of one connection
    recipients: int | None = None  # the same: of one transaction
    domains: int | None = None  # the same: of recipients, over one connection

    @classmethod
    def read(cls, extensions: Mapping[str, str]) -> Self:
        """Parse the reply to EHLO: parameters by keyword, in lower case."""
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

    def reachable(self, mail: OutgoingMail) -> tuple[str, ...]:
        """Return the recipients that the server can serve with its extensions."""
        return mail.recipients if self.smtputf8 else mail.within_ascii

    def objection(self, mail: OutgoingMail) -> Unsendable | None:
        """Return why no recipient of the mail can be served (RFC 6531 3.5, RFC 1870 5)."""
        if not self.reachable(mail):
            return Unsendable(FailureReason.SMTPUTF8_NOT_OFFERED)
        if self.size is not None and self.size < len(mail.content):
            return Unsendable(FailureReason.TOO_BIG)
        return None


def _assignment(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name.upper(), value


def _limit(text: str) -> int | None:
    """Return a number, None for no limit: 0 (RFC 1870 4), or a text that is no number."""
    return (int(text) or None) if _NUMBER.fullmatch(text) else None


class Pipelining:
    """A relay's history of command groups, by their number of recipients (RFC 2920).

    A relay that drops early commands always does so, and one with a small buffer does so for large
    groups. But the mail of any client may end without a reply too. So a failure at a size that has
    worked before counts only after MAX_FAILURES in a row. Times are in seconds of one clock.
    """

    def __init__(self) -> None:
        self._largest = 0  # recipients of a group that has worked
        self._failures = 0  # in a row
        self._too_large = 0
        self._until = 0.0

    def allows(self, recipients: int, now: float) -> bool:
        """Return whether commands for so many may go out in one group."""
        return now >= self._until or recipients < self._too_large

    def succeeded(self, recipients: int) -> None:
        """Record that there was a reply to each command of a group."""
        self._failures = 0
        self._largest = max(self._largest, recipients)

    def failed(self, recipients: int, now: float) -> None:
        """Record that replies to a group were missing, or belonged to other commands."""
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            self._largest = 0
        if recipients > self._largest:
            self._too_large, self._until = self._largest + 1, now + LOCK_STEP_SECONDS
