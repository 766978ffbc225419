"""The outcomes of one attempt out of its replies: events, and perhaps another attempt.

The id of an event follows from its content, so that an attempt that is reported twice counts once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

from services.sender.claims import Stop, mail_key
from services.sender.schedule import AttemptHistory, RetrySchedule
from shared.contracts import (
    Category,
    EmailBounced,
    EmailCancelled,
    EmailDeferred,
    EmailDelivered,
    EmailExpired,
    EmailFailed,
    EmailSuppressed,
    EmailUncertain,
    Outcome,
    Reply,
    SendEmail,
    Stage,
)
from shared.replies import reply as replies
from shared.retry import Reschedule

NO_ROOM_SECONDS = 1.0  # until a recipient is tried again that a transaction had no room for
_EVENTS = UUID("6f0f4d0e-5a55-4c5e-8f6b-2d3f4c1b9a70")  # the name space of our event ids


class FailureReason(StrEnum):
    """Why a mail cannot be sent although no recipient was refused; part of `EmailFailed`."""

    SENDER_REFUSED = "sender_refused"
    TOO_BIG = "too_big"
    SMTPUTF8_NOT_OFFERED = "smtputf8_not_offered"
    SEAL_BROKEN = "seal_broken"
    EXPIRED = "expired"  # it waited too long for a connection; published as `EmailExpired`


@dataclass(frozen=True, slots=True)
class Unsendable:
    """The mail was not tried: it needs something that the server does not have."""

    reason: FailureReason


@dataclass(frozen=True, slots=True)
class NotAttempted:
    """The mail was not tried: for so many seconds no relay may be tried, or a rate is used up."""

    seconds: float


Replies = Mapping[str, Reply]  # by recipient: the reply that settled its part of the transaction
SendResult = Replies | Unsendable | NotAttempted


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The result of an attempt: an event for each recipient that was tried.

    The other recipients are `put_off`, for about `wait` seconds.
    """

    events: tuple[Outcome, ...] = ()
    put_off: tuple[str, ...] = ()
    wait: float = 0.0


def expired(command: SendEmail, at: datetime) -> bool:
    """Return whether the mail is too late to be sent."""
    return command.expires_at is not None and at >= command.expires_at


def next_attempts(command: SendEmail, events: Iterable[Outcome]) -> list[Reschedule]:
    """Return the command again for the recipients that `events` want to be tried again.

    It follows from the events alone, so that events read from the store give the same commands. A
    mail without a time of acceptance is as old as its first attempt.
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
    """Return the same attempt for some of its recipients."""
    return command.model_copy(update={"pending": tuple(recipients)})


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at `command`: its events at the time `at`, from the replies of the server `host`.

    `message_id` is the Message-ID of the mail. A relay is `suspected` if it refused the sender for
    a reason that may be its own.
    """

    command: SendEmail
    at: datetime
    message_id: str | None = None
    host: str = ""
    suspected: bool = False

    def all_expired(self) -> tuple[Outcome, ...]:
        """Return the events of a mail that is too late for all its recipients."""
        return tuple(self._event(EmailExpired, each) for each in self.command.recipients)

    def all_failed(self, reason: FailureReason) -> tuple[Outcome, ...]:
        """Return the events of a mail that cannot be sent to any recipient."""
        if reason is FailureReason.EXPIRED:
            return self.all_expired()
        names = self.command.recipients
        return tuple(self._event(EmailFailed, each, reason=reason) for each in names)

    def all_uncertain(self, orphans: Iterable[str]) -> tuple[Outcome, ...]:
        """Return the events for recipients whose earlier sender died: no mail is sent again."""
        return tuple(self._event(EmailUncertain, each) for each in orphans)

    def all_stopped(self, stops: Mapping[str, Stop]) -> tuple[Outcome, ...]:
        """Return the events for recipients whose mail was stopped before it was sent."""
        return tuple(
            self._event(EmailCancelled, each)
            if stop.origin is None
            else self._event(EmailSuppressed, each, origin=stop.origin, reason=stop.reason)
            for each, stop in stops.items()
        )

    def postpone(self, seconds: float, schedule: RetrySchedule) -> AttemptResult:
        """Put off a mail that was not attempted, unless it would then be too late."""
        if not schedule.in_time(self._history, seconds):
            return AttemptResult(self.all_expired())
        return AttemptResult((), self.command.recipients, seconds)

    def settle(self, result: Replies, schedule: RetrySchedule) -> AttemptResult:
        """Return an event for each recipient from its reply.

        A refusal of the sender is not final while the relay itself is suspected. A recipient
        without room in the transaction is put off without blame. When no recipient has found room,
        all are deferred, or the mail would come back for ever.
        """
        excess = tuple(each for each, reply in result.items() if replies.too_many_recipients(reply))
        if len(excess) == len(result):
            excess = ()
        events = tuple(
            self._outcome(recipient, reply, schedule)
            for recipient, reply in result.items()
            if recipient not in excess
        )
        return AttemptResult(events, excess, NO_ROOM_SECONDS)

    def _outcome(self, recipient: str, reply: Reply, schedule: RetrySchedule) -> Outcome:
        if replies.accepted(reply):
            return self._event(EmailDelivered, recipient, reply)
        wait = schedule.wait_after(self._history, replies.requested_wait(reply))
        if replies.lost_after_dot(reply):
            again = wait if schedule.retries_uncertain else None
            return self._event(EmailUncertain, recipient, reply, retry_after=again)
        waits = self.suspected and replies.sender_refused(reply)
        if replies.permanent(reply) and not waits:
            return self._refused(recipient, reply)
        if wait is None:
            return self._event(EmailExpired, recipient, reply)
        return self._event(EmailDeferred, recipient, reply, retry_after=wait)

    @property
    def _history(self) -> AttemptHistory:
        command, at = self.command, self.at
        age = (at - (command.created_at or at)).total_seconds()
        left = (command.expires_at - at).total_seconds() if command.expires_at else None
        return AttemptHistory(command.attempt, age, left, command.retries)

    def _refused(self, recipient: str, reply: Reply) -> Outcome:
        if reply.stage is Stage.MAIL:
            return self._event(EmailFailed, recipient, reply, reason=_reason(reply))
        return self._event(EmailBounced, recipient, reply)

    def _event(
        self,
        kind: type[Outcome],
        recipient: str,
        reply: Reply | None = None,
        **more: Any,  # noqa: ANN401 -- the fields of that kind, which pydantic checks
    ) -> Outcome:
        command = self.command
        content = f"{mail_key(command)}\n{recipient}\n{command.attempt}\n{kind.keys[0]}"
        return kind(
            id=str(uuid5(_EVENTS, content)),
            at=self.at,
            email_id=command.id,
            category=command.category,
            client=command.client,
            message_id=self.message_id,
            recipient=recipient,
            attempt=command.attempt,
            reply=reply and self._redacted(reply),
            tags=command.tags,
            metadata=command.metadata,
            **self._classification(recipient, reply),
            **more,
        )

    def _classification(self, recipient: str, reply: Reply | None) -> Mapping[str, Any]:
        if reply is None or replies.accepted(reply):
            return {}
        alone = len(self.command.recipients) == 1
        found = replies.classify_refusal(reply, recipient, self.host, alone=alone)
        return found._asdict() if found else {}

    def _redacted(self, reply: Reply) -> Reply:
        """Return a reply as it may be published and kept, without other people's addresses."""
        text = replies.redacted(reply.text, of_code=self.command.category is Category.OTP)
        return reply if text == reply.text else reply.model_copy(update={"text": text})


def _reason(reply: Reply) -> FailureReason:
    """Return why a mail was refused at MAIL."""
    if reply.code == replies.TOO_BIG or reply.enhanced in replies.ENHANCED_TOO_BIG:
        return FailureReason.TOO_BIG
    if reply.enhanced == replies.ENHANCED_NEEDS_SMTPUTF8:
        return FailureReason.SMTPUTF8_NOT_OFFERED
    return FailureReason.SENDER_REFUSED
