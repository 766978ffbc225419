"""Pure: the mails of a run, and what the mailbox has to hold when it has them all."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from ops.load.door import Request
from shared.contracts import Category, SendEmail

SHELF: Final = 500  # mails whose addresses begin alike: half of what one answer holds
_DOMAIN: Final = "inbox.example"  # RFC 2606: nobody's
_SUBJECT: Final = "Load"
_TEXT: Final = "One of many.\n"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent: mails of which the categories take turns. `run` makes its names its own."""

    run: str
    mails: int
    categories: tuple[Category, ...]

    def recipient(self, number: int) -> str:
        """Give the address that one mail alone goes to."""
        return f"{self.shelf(number // SHELF)}{number:07d}@{_DOMAIN}"

    def shelf(self, number: int) -> str:
        """Tell how the addresses of some SHELF mails begin."""
        return f"{self.prefix}{number:05d}-"

    @property
    def prefix(self) -> str:
        """How the addresses of all mails begin."""
        return f"load-{self.run}-"

    @property
    def shelves(self) -> Iterator[str]:
        """Tell how the addresses begin, shelf by shelf."""
        return map(self.shelf, range(-(-self.mails // SHELF)))

    def request(self, number: int) -> Request:
        """Give the request for one mail; asked again it is the same mail."""
        asked = {
            "to": self.recipient(number),
            "subject": _SUBJECT,
            "text": _TEXT,
            "category": self._category(number),
        }
        return Request("POST", "/v1/messages", orjson.dumps(asked), self._id(number))

    def command(self, number: int) -> SendEmail:
        """Give the command for one mail."""
        return SendEmail(
            id=self._id(number),
            to=(self.recipient(number),),
            subject=_SUBJECT,
            text=_TEXT,
            category=self._category(number),
        )

    def _category(self, number: int) -> Category:
        return self.categories[number % len(self.categories)]

    def _id(self, number: int) -> str:
        return f"load-{self.run}-{number}"


def differences(sent: Iterable[str], copies: Mapping[str, int]) -> list[str]:
    """Tell each recipient who has not one copy of the mail.

    Who got a mail of which no answer told that it was sent may have one copy as well, or none.
    """
    return [
        f"{recipient}: {copies.get(recipient, 0)} copies"
        for recipient in sorted({*copies, *sent})
        if copies.get(recipient, 0) != 1
    ]
