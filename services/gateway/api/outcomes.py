"""The outcomes of one message, collected until every recipient has a final one."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from services.gateway.api.response import ResponseBody
from shared.broker import Broker
from shared.contracts import (
    Contract,
    EmailBounced,
    EmailCancelled,
    EmailDelivered,
    EmailExpired,
    EmailFailed,
    EmailSuppressed,
    EmailUncertain,
    NotAccepted,
    Outcome,
    ReplyClass,
    SendEmail,
    Stage,
)

OutcomeName = Literal[
    "delivered", "bounced", "failed", "expired", "uncertain", "suppressed", "cancelled"
]
NAMES: Mapping[type[Outcome], OutcomeName] = {
    EmailDelivered: "delivered",
    EmailBounced: "bounced",
    EmailFailed: "failed",
    EmailExpired: "expired",
    EmailUncertain: "uncertain",
    EmailSuppressed: "suppressed",
    EmailCancelled: "cancelled",
}


class SmtpReply(ResponseBody):
    """The reply of the receiving server, and the stage of the SMTP session."""

    stage: Stage
    code: int = Field(description="RFC 5321 4.2; 0 when there was no reply at all")
    enhanced: str | None = Field(None, description="RFC 3463, such as 5.1.1")
    text: str


class RecipientOutcome(ResponseBody):
    """The final outcome of a message for one recipient."""

    recipient: str
    outcome: OutcomeName = Field(
        description="delivered: the next server accepted it. bounced: it refused the recipient for "
        "good. failed: it could not be sent, whatever the recipient. expired: given up after "
        "its time. uncertain: the server's last reply was lost, it may have been delivered. "
        "suppressed: the address is on the suppression list. cancelled: it was not sent."
    )
    attempt: int = Field(description="The number of the attempt, from 1")
    reply: SmtpReply | None = None
    reply_class: ReplyClass | None = Field(None, description="The class of the refusal")
    reason: str | None = Field(
        None, description="Why it failed; for a suppressed address the origin of its entry first"
    )


class Outcomes:
    """The final outcome of each recipient of a message; the first one stands."""

    def __init__(self, email_id: str, recipients: Sequence[str]) -> None:
        self._email_id = email_id
        self._recipients = recipients
        self._final: dict[str, Outcome] = {}

    def add(self, event: Contract) -> None:
        """Add an event; one that is not final, or not of this message, changes nothing."""
        if (
            isinstance(event, Outcome)
            and type(event) in NAMES
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
    def known(self) -> list[RecipientOutcome]:
        """The outcomes so far, in the order of the recipients."""
        final = (self._final.get(recipient) for recipient in self._recipients)
        return [_described(outcome) for outcome in final if outcome is not None]


async def wait_for_outcomes(
    broker: Broker, command: SendEmail, seconds: float, stop: asyncio.Event
) -> Outcomes:
    """Publish `command` and return its outcomes, once complete, after `seconds`, or at `stop`.

    Raises Unavailable when the broker does not store the command.
    """
    outcomes = Outcomes(command.id, command.recipients)
    async with broker.request_stream(command) as replies:
        collecting = asyncio.create_task(
            _collect(outcomes, replies), name=f"outcomes of {command.id}"
        )
        tasks = (collecting, asyncio.create_task(stop.wait()))
        try:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
    return outcomes


async def _collect(outcomes: Outcomes, replies: asyncio.Queue[Contract]) -> None:
    while not outcomes.complete:
        outcomes.add(await replies.get())


def _described(outcome: Outcome) -> RecipientOutcome:
    reply = SmtpReply(**outcome.reply.model_dump()) if outcome.reply else None
    return RecipientOutcome(
        recipient=outcome.recipient,
        outcome=NAMES[type(outcome)],
        attempt=outcome.attempt,
        reply=reply,
        reply_class=outcome.reply_class if isinstance(outcome, NotAccepted) else None,
        reason=_reason(outcome),
    )


def _reason(outcome: Outcome) -> str | None:
    """Return the reason in the words that GET has for it."""
    match outcome:
        case EmailFailed():
            return outcome.reason
        case EmailSuppressed():
            return ": ".join(filter(None, (outcome.origin, outcome.reason)))
        case _:
            return None
