"""Pure: what the replies of one attempt mean for the mail: events, and perhaps another attempt.

The ids of events follow from what they state, so that an attempt that is told twice is counted
once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

from services.sender import reply as replies
from services.sender.schedule import Schedule
from shared.contracts import (
    Contract,
    EmailBounced,
    EmailDeferred,
    EmailDelivered,
    EmailExpired,
    EmailFailed,
    EmailUncertain,
    Outcome,
    Reply,
    SendEmail,
    Stage,
)
from shared.retry import Later

Replies = Mapping[str, Reply]  # by recipient: the reply that settled its part of the transaction

_EVENTS = UUID("6f0f4d0e-5a55-4c5e-8f6b-2d3f4c1b9a70")  # the name space of our event ids


class Reason(StrEnum):
    """Why a mail cannot be sent although no recipient was refused; part of `EmailFailed`."""

    SENDER_REFUSED = "sender_refused"
    TOO_BIG = "too_big"
    SMTPUTF8_NOT_OFFERED = "smtputf8_not_offered"
    SEAL_BROKEN = "seal_broken"
    EXPIRED = "expired"  # it waited too long for a connection; told as `EmailExpired`


@dataclass(frozen=True, slots=True)
class Unsendable:
    """The mail was not even tried: it needs what the server does not have."""

    reason: Reason


def expired(command: SendEmail, at: datetime) -> bool:
    """Tell whether the mail is not to be sent any more."""
    return command.expires_at is not None and at >= command.expires_at


def all_expired(command: SendEmail, at: datetime) -> list[Contract | Later]:
    """Give the events of a mail that is too late for all its recipients."""
    return [_Attempt(command, at).event(EmailExpired, each) for each in command.recipients]


def all_failed(command: SendEmail, reason: Reason, at: datetime) -> list[Contract | Later]:
    """Give the events of a mail that can be sent to nobody."""
    if reason is Reason.EXPIRED:
        return all_expired(command, at)
    attempt = _Attempt(command, at)
    return [attempt.event(EmailFailed, each, reason=reason) for each in command.recipients]


def settle(
    command: SendEmail, heard: Replies, schedule: Schedule, at: datetime
) -> list[Contract | Later]:
    """Give an event for each recipient, and the command again for those still to be tried."""
    wait = schedule.wait_after(command.attempt, _age(command, at), _left(command, at))
    attempt = _Attempt(command, at)
    events = [
        attempt.outcome(recipient, reply, wait, schedule) for recipient, reply in heard.items()
    ]
    again = [event.recipient for event in events if not event.final]
    return [*events, *_later(command, again, wait, at)]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt at `command`; makes the events that tell of it."""

    command: SendEmail
    at: datetime

    def outcome(
        self, recipient: str, reply: Reply, wait: float | None, schedule: Schedule
    ) -> Outcome:
        if replies.accepted(reply):
            return self.event(EmailDelivered, recipient, reply)
        if replies.lost_after_dot(reply):
            again = wait if schedule.retries_uncertain else None
            return self.event(EmailUncertain, recipient, reply, retry_after=again)
        if replies.permanent(reply):
            return self._refused(recipient, reply)
        if wait is None:
            return self.event(EmailExpired, recipient, reply)
        return self.event(EmailDeferred, recipient, reply, retry_after=wait)

    def _refused(self, recipient: str, reply: Reply) -> Outcome:
        if reply.stage is Stage.MAIL:
            too_big = reply.code == replies.TOO_BIG
            reason = Reason.TOO_BIG if too_big else Reason.SENDER_REFUSED
            return self.event(EmailFailed, recipient, reply, reason=reason)
        found = replies.class_of(reply, recipient)
        return self.event(EmailBounced, recipient, reply, reply_class=found)

    def event(
        self,
        kind: type[Outcome],
        recipient: str,
        reply: Reply | None = None,
        **more: Any,  # noqa: ANN401 -- the fields of that kind, which pydantic checks
    ) -> Outcome:
        command = self.command
        stated = f"{command.id}\n{recipient}\n{command.attempt}\n{kind.keys[0]}"
        return kind(
            id=str(uuid5(_EVENTS, stated)),
            at=self.at,
            email_id=command.id,
            category=command.category,
            recipient=recipient,
            attempt=command.attempt,
            reply=reply,
            **more,
        )


def _later(
    command: SendEmail, recipients: Sequence[str], wait: float | None, at: datetime
) -> Iterable[Later]:
    """Give the next attempt. Its age counts from the first, also where nobody wrote it down."""
    if not recipients or wait is None:
        return ()
    update = {
        "pending": tuple(recipients),
        "attempt": command.attempt + 1,
        "created_at": command.created_at or at,
    }
    return (Later(command.model_copy(update=update), wait),)


def _age(command: SendEmail, at: datetime) -> float:
    return (at - (command.created_at or at)).total_seconds()


def _left(command: SendEmail, at: datetime) -> float | None:
    return None if command.expires_at is None else (command.expires_at - at).total_seconds()
