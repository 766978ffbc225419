"""Pure: what a server can do beyond plain SMTP, as it told after EHLO."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from services.sender.mail.compose import Mail
from services.sender.outcome import Reason, Unsendable

_NUMBER = re.compile(r"[0-9]{1,20}")  # RFC 1870 4


@dataclass(frozen=True, slots=True)
class Offers:
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

    def reaches(self, mail: Mail) -> tuple[str, ...]:
        """Return the recipients that the server can serve with its extensions."""
        return mail.recipients if self.smtputf8 else mail.within_ascii

    def objection(self, mail: Mail) -> Unsendable | None:
        """Return why no recipient of this mail can be served (RFC 6531 3.5, RFC 1870 5)."""
        if not self.reaches(mail):
            return Unsendable(Reason.SMTPUTF8_NOT_OFFERED)
        if self.size is not None and self.size < len(mail.content):
            return Unsendable(Reason.TOO_BIG)
        return None


def _assignment(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name.upper(), value


def _limit(text: str) -> int | None:
    """Give a number; 0 is no limit (RFC 1870 4), and so is what nobody can read."""
    return (int(text) or None) if _NUMBER.fullmatch(text) else None
