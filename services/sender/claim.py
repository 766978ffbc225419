"""Pure: who of a mail's recipients an attempt may send to, and what is known of the others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.contracts import Outcome, SendEmail

# A claim that nobody has renewed for so long was that of a sender who died. It has nothing to do
# with how long a transaction takes: who is at one renews its claim.
LEASE_SECONDS = 30.0
# Share of a lease that its holder does not use: octets need a moment from the last look at the
# lease to the relay, and the clocks of two machines do not run at one speed.
LEASE_MARGIN = 0.1


class LostClaim(Exception):
    """The lease of a claim ran out, so another sender may be at its mail: nothing was sent."""

    def __init__(self, before: str) -> None:
        super().__init__(before)
        self.before = before


@dataclass(slots=True)
class Lease:
    """The time until which nobody else may take a claim over.

    `until` is in seconds of the store's steady clock. Each renewal moves it.
    """

    until: float = math.inf


def mail_key(command: SendEmail) -> str:
    """Name a mail among those of all clients: an id that another client uses is another mail.

    A program that reads events knows the ids of others' mails, and could end such a mail by one of
    its own under the same id.
    """
    return f"{command.client}/{command.id}" if command.client else command.id


@dataclass(frozen=True, slots=True)
class Claim:
    """An attempt's right to send to some recipients, which nobody else has until it is settled.

    Each recipient of the attempt is in one of these, but for those whose next attempt has already
    begun: of them there is nothing to do or to say.
    """

    email_id: str  # its `mail_key`
    attempt: int
    token: str
    fresh: tuple[str, ...] = ()  # ours; nobody can have sent this attempt to them
    orphans: tuple[str, ...] = ()  # ours, from one who died at it and may have sent it
    busy: tuple[str, ...] = ()  # somebody else is at it now
    settled: Sequence[Outcome] = ()  # what this attempt has led to, or an earlier one for good
    lease: Lease = field(default_factory=Lease, compare=False)

    @property
    def ours(self) -> tuple[str, ...]:
        """All recipients that nobody else may send to."""
        return self.fresh + self.orphans
