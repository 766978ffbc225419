"""Pure: the events of one message, until each recipient has its last."""

from collections.abc import Mapping, Sequence
from typing import Literal

from services.gateway.api.answers import RecipientOutcome, SmtpReply
from shared.contracts import (
    Contract,
    EmailBounced,
    EmailDelivered,
    EmailExpired,
    EmailFailed,
    EmailUncertain,
    NotAccepted,
    Outcome,
)

Name = Literal["delivered", "bounced", "failed", "expired", "uncertain"]
_NAMES: Mapping[type[Outcome], Name] = {
    EmailDelivered: "delivered",
    EmailBounced: "bounced",
    EmailFailed: "failed",
    EmailExpired: "expired",
    EmailUncertain: "uncertain",
}


class Outcomes:
    """Collects what is said of a message; the first final word on a recipient stands."""

    def __init__(self, email_id: str, recipients: Sequence[str]) -> None:
        self._email_id = email_id
        self._recipients = recipients
        self._final: dict[str, Outcome] = {}

    def add(self, event: Contract) -> None:
        """Take note of an event; one that is not final or not of this message changes nothing."""
        if (
            isinstance(event, Outcome)
            and type(event) in _NAMES
            and event.final
            and event.email_id == self._email_id
            and event.recipient in self._recipients
        ):
            self._final.setdefault(event.recipient, event)

    @property
    def complete(self) -> bool:
        """Whether every recipient has a final outcome."""
        return len(self._final) == len(self._recipients)

    @property
    def told(self) -> list[RecipientOutcome]:
        """What is known, in the order of the recipients."""
        known = (self._final.get(recipient) for recipient in self._recipients)
        return [_told(outcome) for outcome in known if outcome is not None]


def _told(outcome: Outcome) -> RecipientOutcome:
    reply = SmtpReply(**outcome.reply.model_dump()) if outcome.reply else None
    return RecipientOutcome(
        recipient=outcome.recipient,
        outcome=_NAMES[type(outcome)],
        attempt=outcome.attempt,
        reply=reply,
        reply_class=outcome.reply_class if isinstance(outcome, NotAccepted) else None,
        reason=outcome.reason if isinstance(outcome, EmailFailed) else None,
    )
