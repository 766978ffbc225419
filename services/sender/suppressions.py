"""Pure: what stops a mail for one of its recipients."""

from collections.abc import Iterable
from typing import NamedTuple

from shared.contracts import Category, SendEmail, SuppressionOrigin

_BITS = {category: 1 << place for place, category in enumerate(Category)}
_RANKS = {origin: rank for rank, origin in enumerate(SuppressionOrigin)}


class Stop(NamedTuple):
    """Why a mail is not sent to a recipient: an entry of this origin, or None: it was cancelled."""

    origin: SuppressionOrigin | None
    reason: str = ""


CANCELLED = Stop(None)


class CopiedSuppression(NamedTuple):
    """An entry of the suppression list; `client` and `list_id` are empty for all of them.

    `categories` are those that it stops, as the sum of their bits.
    """

    address_key: str
    origin: SuppressionOrigin
    client: str
    list_id: str
    categories: int
    reason: str

    def stops(self, command: SendEmail) -> bool:
        """Return whether a mail to the entry's address is not to be sent."""
        return bool(
            self.categories & _BITS[command.category]
            and self.client in {"", command.client}
            and self.list_id in {"", command.list_id}
        )


def bits(categories: Iterable[Category]) -> int:
    """Return classes of mail as the sum of their bits."""
    return sum(_BITS[each] for each in {*categories})


def find_stop(entries: Iterable[CopiedSuppression], command: SendEmail) -> Stop | None:
    """Return why a mail is not sent to the address of some entries, None if it is sent."""
    found = min(
        (each for each in entries if each.stops(command)),
        key=lambda entry: _RANKS[entry.origin],
        default=None,
    )
    return found and Stop(found.origin, found.reason)
