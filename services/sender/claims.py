"""Claims: which of a mail's recipients an attempt may send to, and what is known of the others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.sender.suppressions import Stop
from shared.contracts import Outcome, SendEmail

# A sender that has not renewed its claim for so long counts as dead. A transaction may take longer:
# its sender renews the claim meanwhile.
LEASE_SECONDS = 30.0
# Share of a lease that its holder does not use: octets need a moment from the last check of the
# lease to the relay, and the clocks of two machines do not run at one speed.
LEASE_MARGIN_SHARE = 0.1


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
    # On the store's steady clock; no stop from before that was overlooked.
    taken_at: float = field(default=0.0, compare=False)
    lease: Lease = field(default_factory=Lease, compare=False)

    @property
    def ours(self) -> tuple[str, ...]:
        """The recipients that only this attempt may send to."""
        return self.fresh + self.orphans
