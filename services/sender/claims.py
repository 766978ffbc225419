"""Claims: which of a mail's recipients an attempt may send to, and what stops the others."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.contracts import Category, Outcome, SendEmail, SuppressionOrigin

# A sender that has not renewed its claim for so long counts as dead. A transaction may take longer:
# its sender renews the claim meanwhile.
LEASE_SECONDS = 30.0
# Share of a lease that its holder does not use: octets need a moment from the last check of the
# lease to the relay, and the clocks of two machines do not run at one speed.
LEASE_MARGIN_SHARE = 0.1
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


class RecipientsStopped(Exception):
    """Some recipients must not be sent to any more: nothing was sent to anybody."""

    def __init__(self, stops: Mapping[str, Stop]) -> None:
        super().__init__(len(stops))
        self.stops = stops


class LostClaim(Exception):
    """The lease of a claim ran out, so another sender may send its mail: nothing was sent."""

    def __init__(self, before: str) -> None:
        super().__init__(before)
        self.before = before


@dataclass(slots=True)
class Lease:
    """The time until which no other sender may take a claim over.

    `until` is in seconds of the store's steady clock. Each renewal moves it.
    """

    until: float = math.inf


def mail_key(command: SendEmail) -> str:
    """Return a key of a mail among those of all clients.

    The same id of another client is another mail. A program that reads events knows the ids of
    other clients' mails, and could end such a mail by one of its own under the same id.
    """
    return client_key(command.client, command.id)


def client_key(client: str | None, email_id: str) -> str:
    """Return the key of a client's mail, see `mail_key`."""
    return f"{client}/{email_id}" if client else email_id


@dataclass(frozen=True, slots=True)
class Claim:
    """An attempt's exclusive right to send to some recipients, until they are settled.

    Each recipient of the attempt is in one of these tuples, except a recipient whose next attempt
    has begun: for that one there is nothing to send or to publish.
    """

    email_id: str  # its `mail_key`
    attempt: int
    token: str
    fresh: tuple[str, ...] = ()  # ours; this attempt was certainly not sent to them
    orphans: tuple[str, ...] = ()  # ours, from a sender that died and may have sent it
    busy: tuple[str, ...] = ()  # claimed by another sender now
    settled: Sequence[Outcome] = ()  # outcomes of this attempt, or final ones of an earlier one
    stops: Mapping[str, Stop] = field(default_factory=dict)  # by recipient, of those that are ours
    # On the store's steady clock, and the changes of its process that had ended by then: no stop
    # from before that was overlooked.
    taken_at: float = field(default=0.0, compare=False)
    changes_seen: int = field(default=0, compare=False)
    lease: Lease = field(default_factory=Lease, compare=False)

    @property
    def ours(self) -> tuple[str, ...]:
        """The recipients that only this attempt may send to."""
        return self.fresh + self.orphans
