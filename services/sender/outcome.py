"""Pure: what the replies of one attempt mean for the mail: events, and perhaps another attempt.

The ids of events follow from what they state, so that an attempt that is told twice is counted
once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

from services.sender.claim import mail_key
from services.sender.replies import reply as replies
from services.sender.replies.reply import wait_asked
from services.sender.schedule import AttemptHistory, RetrySchedule
from shared.contracts import (
    Category,
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
from shared.retry import Reschedule

Replies = Mapping[str, Reply]  # by recipient: the reply that settled its part of the transaction

EXCESS_SECONDS = 1.0  # until those come again whom a transaction had no room for
_EVENTS = UUID("6f0f4d0e-5a55-4c5e-8f6b-2d3f4c1b9a70")  # the name space of our event ids


class FailureReason(StrEnum):
    """Why a mail cannot be sent although no recipient was refused; part of `EmailFailed`."""

    SENDER_REFUSED = "sender_refused"
    TOO_BIG = "too_big"
    SMTPUTF8_NOT_OFFERED = "smtputf8_not_offered"
    SEAL_BROKEN = "seal_broken"
    EXPIRED = "expired"  # it waited too long for a connection; told as `EmailExpired`


@dataclass(frozen=True, slots=True)
class Unsendable:
    """The mail was not even tried: it needs what the server does not have."""

    reason: FailureReason


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What one attempt came to: an event for each recipient it was about.

    Nobody tried to send to the others: they are `put_off`, for about `wait` seconds.
    """

    events: tuple[Outcome, ...] = ()
    put_off: tuple[str, ...] = ()
    wait: float = 0.0


def expired(command: SendEmail, at: datetime) -> bool:
    """Tell whether the mail is not to be sent any more."""
    return command.expires_at is not None and at >= command.expires_at


def all_expired(command: SendEmail, at: datetime) -> tuple[Outcome, ...]:
    """Give the events of a mail that is too late for all its recipients."""
    attempt = _Attempt(command, at)
    return tuple(attempt.event(EmailExpired, each) for each in command.recipients)


def all_failed(command: SendEmail, reason: FailureReason, at: datetime) -> tuple[Outcome, ...]:
    """Give the events of a mail that can be sent to nobody."""
    if reason is FailureReason.EXPIRED:
        return all_expired(command, at)
    attempt = _Attempt(command, at)
    return tuple(attempt.event(EmailFailed, each, reason=reason) for each in command.recipients)


def all_held(command: SendEmail, orphans: Iterable[str], at: datetime) -> tuple[Outcome, ...]:
    """Give the events for those whom somebody may have sent it to who died: it is not repeated."""
    attempt = _Attempt(command, at)
    return tuple(attempt.event(EmailUncertain, each) for each in orphans)


def postpone(
    command: SendEmail, seconds: float, schedule: RetrySchedule, at: datetime
) -> AttemptResult:
    """Put off an attempt that was not made, unless its mail would then be too late."""
    if not schedule.in_time(_Attempt(command, at).tried, seconds):
        return AttemptResult(all_expired(command, at))
    return AttemptResult((), command.recipients, seconds)


def settle(  # noqa: PLR0913 -- it is all that is known of an attempt
    command: SendEmail,
    heard: Replies,
    schedule: RetrySchedule,
    at: datetime,
    host: str = "",
    *,
    suspected: bool = False,
) -> AttemptResult:
    """Return an event for each recipient of what the server `host` said.

    A refusal of the sender is not final while the relay itself is `suspected`. A recipient that
    found no room is put off and not blamed. Another must have found room: a server that has none
    for anybody defers, or the mail would come back for ever.
    """
    attempt = _Attempt(command, at, host, suspected)
    excess = tuple(each for each, reply in heard.items() if replies.too_many_recipients(reply))
    if len(excess) == len(heard):
        excess = ()
    events = tuple(
        attempt.outcome(recipient, reply, schedule)
        for recipient, reply in heard.items()
        if recipient not in excess
    )
    return AttemptResult(events, excess, EXCESS_SECONDS)


def next_attempts(command: SendEmail, events: Iterable[Outcome]) -> list[Reschedule]:
    """Give the command again for those of whom `events` say that they are tried again.

    It follows from the events alone, so that who reads them from the store gives the same. A
    mail's age counts from its first attempt where nobody wrote down when it was accepted.
    """
    waiting: dict[float, list[Outcome]] = {}
    for event in events:
        wait = event.retry_after if isinstance(event, EmailDeferred | EmailUncertain) else None
        if wait is not None:
            waiting.setdefault(wait, []).append(event)
    return [
        Reschedule(
            again(command, [event.recipient for event in group]).model_copy(
                update={
                    "attempt": command.attempt + 1,
                    "created_at": command.created_at or min(event.at for event in group),
                }
            ),
            wait,
        )
        for wait, group in waiting.items()
    ]


def again(command: SendEmail, recipients: Iterable[str]) -> SendEmail:
    """Give the same attempt for some of its recipients."""
    return command.model_copy(update={"pending": tuple(recipients)})


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt at `command`; makes the events that tell of it."""

    command: SendEmail
    at: datetime
    host: str = ""
    suspected: bool = False

    def outcome(self, recipient: str, reply: Reply, schedule: RetrySchedule) -> Outcome:
        if replies.accepted(reply):
            return self.event(EmailDelivered, recipient, reply)
        wait = schedule.wait_after(self.tried, wait_asked(reply))
        if replies.lost_after_dot(reply):
            again = wait if schedule.retries_uncertain else None
            return self.event(EmailUncertain, recipient, reply, retry_after=again)
        waits = self.suspected and replies.sender_refused(reply)
        if replies.permanent(reply) and not waits:
            return self._refused(recipient, reply)
        if wait is None:
            return self.event(EmailExpired, recipient, reply)
        return self.event(EmailDeferred, recipient, reply, retry_after=wait)

    @property
    def tried(self) -> AttemptHistory:
        """What is behind the mail now."""
        command, at = self.command, self.at
        age = (at - (command.created_at or at)).total_seconds()
        left = (command.expires_at - at).total_seconds() if command.expires_at else None
        return AttemptHistory(command.attempt, age, left, command.retries)

    def _refused(self, recipient: str, reply: Reply) -> Outcome:
        if reply.stage is Stage.MAIL:
            return self.event(EmailFailed, recipient, reply, reason=_reason(reply))
        return self.event(EmailBounced, recipient, reply)

    def event(
        self,
        kind: type[Outcome],
        recipient: str,
        reply: Reply | None = None,
        **more: Any,  # noqa: ANN401 -- the fields of that kind, which pydantic checks
    ) -> Outcome:
        command = self.command
        stated = f"{mail_key(command)}\n{recipient}\n{command.attempt}\n{kind.keys[0]}"
        return kind(
            id=str(uuid5(_EVENTS, stated)),
            at=self.at,
            email_id=command.id,
            category=command.category,
            recipient=recipient,
            attempt=command.attempt,
            reply=reply and self._kept(reply),
            **self._finding(recipient, reply),
            **more,
        )

    def _finding(self, recipient: str, reply: Reply | None) -> Mapping[str, Any]:
        """Give the fields that tell why a reply is a no."""
        if reply is None or replies.accepted(reply):
            return {}
        alone = len(self.command.recipients) == 1
        found = replies.class_of(reply, recipient, self.host, alone=alone)
        return found._asdict() if found else {}

    def _kept(self, reply: Reply) -> Reply:
        """Return a reply as it may be told and kept: other people's addresses may be in it."""
        text = replies.redacted(reply.text, of_code=self.command.category is Category.OTP)
        return reply if text == reply.text else reply.model_copy(update={"text": text})


def _reason(reply: Reply) -> FailureReason:
    """Return why a mail was refused at MAIL."""
    if reply.code == replies.TOO_BIG or reply.enhanced in replies.ENHANCED_TOO_BIG:
        return FailureReason.TOO_BIG
    if reply.enhanced == replies.ENHANCED_NEEDS_SMTPUTF8:
        return FailureReason.SMTPUTF8_NOT_OFFERED
    return FailureReason.SENDER_REFUSED
