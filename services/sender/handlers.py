"""What the sender does with a command, one object for each sending class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import structlog

from services.sender import metrics, outcome
from services.sender.claim import Claim, LostClaim
from services.sender.mail.compose import AttemptProgress, OutgoingMail
from services.sender.mail.writer import MailBuilder
from services.sender.outcome import AttemptResult, FailureReason, Replies, Unsendable
from services.sender.replies import reply as replies
from services.sender.schedule import RetrySchedule
from services.sender.smtp.circuit_breaker import NotAttempted
from services.sender.store import ClaimStore
from shared import inflight
from shared.contracts import Category, Contract, NotAccepted, Outcome, SendEmail
from shared.errors import Reject, Retry
from shared.inflight import Phase
from shared.retry import Reschedule
from shared.runtime import log

# Between two looks at a recipient whom somebody else has claimed: who died is soon found out.
BUSY_SECONDS = 10.0
MAX_AHEAD = timedelta(minutes=15)  # of the time of acceptance: so wrong a publisher's clock may be

logger = structlog.get_logger(__name__)


class Smtp(Protocol):
    """What takes a mail to the relay."""

    async def send(self, mail: OutgoingMail) -> Replies | Unsendable | NotAttempted:
        """Run one transaction and give the reply that settled each recipient."""


@dataclass(frozen=True, slots=True)
class SendHandler:
    """Sends the mails of one class."""

    smtp: Smtp
    writer: MailBuilder
    claims: ClaimStore
    now: Callable[[], datetime]
    schedule: RetrySchedule

    async def on_send_email(self, command: SendEmail) -> Sequence[Contract | Reschedule]:
        """Try once to send a mail to its pending recipients and tell each one's outcome.

        Run twice, it mails once: an attempt is claimed before MAIL, and its outcome is kept
        before it is told. The second time gives the same events and the same next attempt from
        the store, or looks in again later while the first is still at it. Only of an attempt
        whose process died does nobody know how far it came: it is made again under the same
        Message-ID, or held as uncertain, as its class has it. Raises Reject for a mail from the
        future, and Retry when the claims are away.

        A process that was stopped for longer than its lease counts as dead. When it goes on it
        sends nothing, and tells no outcome that another sender has settled.
        """
        inflight.reach(Phase.WAITING)
        _check_time(command, self.now())
        claim = await self.claims.claim(command)
        _count(command, claim)
        settlement = AttemptResult()
        if claim.ours:
            progress = self._progress(claim)
            settlement = await self._claimed(command, claim, progress)
            settlement = await self._kept(command, claim, settlement)
            for event in settlement.events:
                _report(event, command, progress.relay)
        told = [*claim.settled, *settlement.events]
        return [
            *told,
            *outcome.next_attempts(command, told),
            *self._later(command, claim.busy, BUSY_SECONDS),
            *self._later(command, settlement.put_off, settlement.wait),
        ]

    def _progress(self, claim: Claim) -> AttemptProgress:
        """Return the record of an attempt, which checks the claim before each step."""

        def step(before: str, phase: Phase, waits_for: str) -> None:
            if not self.claims.holds(claim):
                raise LostClaim(before)
            inflight.reach(phase, waits_for)

        return AttemptProgress(
            begin=partial(step, "mail", Phase.BEGUN, "a transaction before its content"),
            commit=partial(step, "content", Phase.COMMITTED, "the relay's reply to a whole mail"),
        )

    async def _claimed(
        self, command: SendEmail, claim: Claim, progress: AttemptProgress
    ) -> AttemptResult:
        """Make the attempt; if it is cut off, let go of the claim in the way that is true."""
        try:
            return await self._settlement(command, claim, progress)
        except LostClaim as lost:
            await self.claims.give_back(claim)
            _lost(command, lost.before, len(claim.ours))
            return AttemptResult((), claim.ours, BUSY_SECONDS)
        except BaseException:
            if progress.content_begun:
                self.claims.abandon(claim)
                # It may have arrived: only the relay knows.
                sent_again = self.schedule.retries_uncertain
                logger.warning("cut off before the relay's reply: uncertain", sent_again=sent_again)
            else:
                await self.claims.give_back(claim)
            raise

    async def _settlement(
        self, command: SendEmail, claim: Claim, progress: AttemptProgress
    ) -> AttemptResult:
        """Send to those who may be sent to, and hold the others."""
        begun = self.now()
        expired = outcome.expired(command, begun)
        repeats = self.schedule.retries_uncertain and not expired
        held = outcome.all_held(command, () if repeats else claim.orphans, begun)
        pending = _only(command, claim.ours if repeats else claim.fresh)
        if expired or not pending.recipients:
            return AttemptResult(outcome.all_expired(pending, begun) + held)
        attempt = await self._attempt(pending, begun, progress)
        return replace(attempt, events=attempt.events + held) if held else attempt

    async def _attempt(
        self, command: SendEmail, begun: datetime, progress: AttemptProgress
    ) -> AttemptResult:
        try:
            mail = await self.writer.write(command, begun)
        except ValueError:
            return AttemptResult(outcome.all_failed(command, FailureReason.SEAL_BROKEN, begun))
        result = await self.smtp.send(replace(mail, progress=progress))
        match result:
            case NotAttempted(seconds):
                return outcome.postpone(command, seconds, self.schedule, self.now())
            case Unsendable(reason):
                return AttemptResult(outcome.all_failed(command, reason, self.now()))
        metrics.counter(metrics.ATTEMPTS, command.category, progress.relay).inc()
        _warn_of_trouble(result, progress, command.category)
        return outcome.settle(
            command,
            result,
            self.schedule,
            self.now(),
            progress.host,
            suspected=progress.suspected,
        )

    async def _kept(self, command: SendEmail, claim: Claim, found: AttemptResult) -> AttemptResult:
        """Keep the outcomes of the attempt and return those to publish.

        An outcome for which the claim was lost is not published: another sender publishes its own.
        If the database is away, the outcomes are published all the same: they are the truth.
        """
        try:
            kept = tuple(await self.claims.settle(claim, found.events))
        except (Retry, Reject) as error:
            # Not told, the mail would be sent again for certain; not kept, only if its command
            # is delivered again.
            logger.error("an outcome was not kept", reason=str(error))  # noqa: TRY400 -- a line
            return found
        if lost := len(found.events) - len(kept):
            _lost(command, "settlement", lost)
            return replace(found, events=kept)
        return found

    def _later(
        self, command: SendEmail, recipients: Sequence[str], seconds: float
    ) -> Sequence[Reschedule]:
        """Give the same attempt again, for some of its recipients, if there are any."""
        if not recipients:
            return ()
        # So that a mail that is only put off grows old too.
        seen = command.model_copy(update={"created_at": command.created_at or self.now()})
        return [Reschedule(outcome.again(seen, recipients), seconds)]


def _check_time(command: SendEmail, now: datetime) -> None:
    """Refuse a mail that says it was accepted long after now (issue 10, S6).

    Its Date would be of the future (RFC 5322 3.6.1), and its give-up as far away.
    """
    if command.created_at is not None and command.created_at > now + MAX_AHEAD:
        minutes = MAX_AHEAD.total_seconds() / 60
        raise Reject(f"created_at: must be at most {minutes:g} minutes ahead of now")


def _only(command: SendEmail, recipients: tuple[str, ...]) -> SendEmail:
    """Give the attempt for some of its recipients; for all of them it is its own copy."""
    return command if recipients == command.recipients else outcome.again(command, recipients)


def _count(command: SendEmail, claim: Claim) -> None:
    found = (
        ("fresh", claim.fresh),
        ("taken over", claim.orphans),
        ("held elsewhere", claim.busy),
        ("settled before", claim.settled),
    )
    for how, recipients in found:
        if recipients:
            metrics.counter(metrics.CLAIMED, command.category, how).inc(len(recipients))


def _lost(command: SendEmail, before: str, recipients: int) -> None:
    metrics.counter(metrics.LOST, command.category, before).inc(recipients)
    logger.warning("the claim was lost to another sender", before=before, recipients=recipients)


def _report(event: Outcome, command: SendEmail, relay: str) -> None:
    kind, by = event.routing_key.removeprefix("email."), (event.category, relay)
    metrics.counter(metrics.OUTCOMES, *by, kind).inc()
    reason = event.reply_class if isinstance(event, NotAccepted) else None
    if reason is not None:
        metrics.counter(metrics.REFUSALS, *by, reason).inc()
    if event.final and command.created_at is not None:
        seconds = (event.at - command.created_at).total_seconds()
        metrics.histogram(metrics.FINAL, *by).observe(seconds)
    reply = event.reply
    logger.info(
        kind,
        recipient=log.masked(event.recipient),
        attempt=event.attempt,
        stage=reply and reply.stage,
        code=reply and reply.code,
        enhanced=reply and reply.enhanced,
        reply_class=reason,
    )


def _warn_of_trouble(heard: Replies, progress: AttemptProgress, category: Category) -> None:
    """Warn of trouble that only an operator can put right, once a mail."""
    of_relay = replies.sender_refused if progress.suspected else replies.about_us
    trouble = next(filter(of_relay, heard.values()), None)
    if trouble is not None:
        logger.warning(
            "the relay is away or refuses us",
            stage=trouble.stage,
            code=trouble.code,
            reply=replies.redacted(trouble.text, of_code=category is Category.OTP),
        )
