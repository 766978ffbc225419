"""The handlers of the sender: the mails of each class, and what stops them."""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import structlog

from services.sender import metrics, outcome
from services.sender.claims import Claim, LostClaim, RecipientsStopped, Stop, client_key
from services.sender.mail.builder import MailBuilder
from services.sender.mail.compose import AttemptProgress, OutgoingMail
from services.sender.outcome import (
    Attempt,
    AttemptResult,
    FailureReason,
    NotAttempted,
    Replies,
    SendResult,
    Unsendable,
)
from services.sender.schedule import RetrySchedule
from services.sender.stops import StopStore
from services.sender.store import ClaimStore
from shared import inflight
from shared.contracts import (
    AnnounceSuppressions,
    CancelEmail,
    Category,
    Contract,
    EmailCancelling,
    ForgetAddress,
    NotAccepted,
    Outcome,
    SendEmail,
    SuppressionAdded,
    SuppressionRemoved,
)
from shared.errors import Reject, Retry, Unavailable
from shared.inflight import Phase
from shared.replies import reply as replies
from shared.retry import Reschedule
from shared.runtime import log
from shared.runtime.sealing import AddressHasher

# Until the next try to claim a recipient of another sender, whose lease ends soon if it died.
BUSY_SECONDS = 10.0
# Of a time of acceptance: so wrong a publisher's clock may be.
MAX_CLOCK_SKEW = timedelta(minutes=15)

logger = structlog.get_logger(__name__)


class Smtp(Protocol):
    """The way to the relays."""

    async def send(self, mail: OutgoingMail) -> SendResult:
        """Run one transaction and return the reply that settled each recipient."""


@dataclass(frozen=True, slots=True)
class SendHandler:
    """Sends the mails of one class."""

    smtp: Smtp
    builder: MailBuilder
    claims: ClaimStore
    now: Callable[[], datetime]
    schedule: RetrySchedule

    async def on_send_email(self, command: SendEmail) -> Sequence[Contract | Reschedule]:
        """Send a mail to its pending recipients and return the outcome of each.

        Run twice, it mails once: an attempt is claimed before MAIL, and its outcome is kept before
        it is published. The second run returns the same events and the same next attempt from the
        store, or is put off while the first one is under way. When the process of an attempt died,
        its progress is unknown: the attempt is made again under the same Message-ID, or reported as
        uncertain, as its class has it. Raises Retry when the database is away.

        A process that was stopped for longer than its lease counts as dead. When it goes on it
        sends nothing, and publishes no outcome that another sender has settled.
        """
        command = _not_ahead(command, self.now())
        done = [await self._send_part(part) for part in self._parts(command)]
        events = [event for claim, result in done for event in (*claim.settled, *result.events)]
        busy = [recipient for claim, _ in done for recipient in claim.busy]
        put_off = [recipient for _, result in done for recipient in result.put_off]
        return [
            *events,
            *outcome.next_attempts(command, events),
            *self._later(command, busy, BUSY_SECONDS),
            *self._later(command, put_off, max(result.wait for _, result in done)),
        ]

    def _parts(self, command: SendEmail) -> Sequence[SendEmail]:
        """Return the parts of an attempt, one after the other: each recipient with a return path.

        A part that is done is kept before the next one begins, so that it is done once even if the
        attempt is cut off there and made again.
        """
        if self.builder.return_paths is None or len(command.recipients) == 1:
            return [command]
        return [outcome.again(command, [each]) for each in command.recipients]

    async def _send_part(self, command: SendEmail) -> tuple[Claim, AttemptResult]:
        """Claim the recipients, send to those that are ours, and keep their outcomes."""
        inflight.reach(Phase.WAITING)
        claim = await self.claims.claim(command)
        _count(command, claim)
        result = AttemptResult()
        if claim.ours:
            progress = self._progress(claim, command)
            result = await self._attempt(command, claim, progress)
            result = await self._keep(command, claim, result)
            for event in result.events:
                _report(event, command, progress.relay)
        return claim, result

    def _progress(self, claim: Claim, command: SendEmail) -> AttemptProgress:
        """Return the progress of an attempt, which checks the claim before each step."""

        def step(before: str, phase: Phase, waits_for: str) -> None:
            if not self.claims.holds(claim):
                raise LostClaim(before)
            inflight.reach(phase, waits_for)

        return AttemptProgress(
            command.attempt,
            check=partial(self.claims.check_stops, claim, command),
            begin=partial(step, "mail", Phase.BEGUN, "a transaction before its content"),
            commit=partial(step, "content", Phase.COMMITTED, "the relay's reply to a whole mail"),
        )

    async def _attempt(
        self, command: SendEmail, claim: Claim, progress: AttemptProgress
    ) -> AttemptResult:
        """Make the attempt; if it is cancelled, give the claim back or leave it uncertain."""
        try:
            return await self._send_pending(command, claim, progress)
        except LostClaim as lost:
            await self.claims.give_back(claim)
            _lost(command, lost.before, len(claim.ours))
            return AttemptResult((), claim.ours, BUSY_SECONDS)
        except BaseException:
            if progress.content_begun:
                # The mail may have arrived: only the relay knows.
                self.claims.abandon(claim)
                sent_again = self.schedule.retries_uncertain
                logger.warning("cut off before the relay's reply: uncertain", sent_again=sent_again)
            else:
                await self.claims.give_back(claim)
            raise

    async def _send_pending(
        self, command: SendEmail, claim: Claim, progress: AttemptProgress
    ) -> AttemptResult:
        """Send to the fresh recipients, and to orphans if their class has them tried again."""
        begun = self.now()
        expired = outcome.expired(command, begun)
        repeats = self.schedule.retries_uncertain and not expired
        attempt = self._attempt_at(command, begun)
        wanted = [
            each for each in (claim.ours if repeats else claim.fresh) if each not in claim.stops
        ]
        unsure = [each for each in claim.orphans if each not in {*wanted, *claim.stops}]
        ended = attempt.all_uncertain(unsure) + self._stopped(command, claim, claim.stops)
        pending = _only(command, tuple(wanted))
        if expired or not pending.recipients:
            return AttemptResult(self._attempt_at(pending, begun).all_expired() + ended)
        result = await self._send_unstopped(pending, claim, begun, progress)
        return replace(result, events=result.events + ended) if ended else result

    async def _send_unstopped(
        self, command: SendEmail, claim: Claim, begun: datetime, progress: AttemptProgress
    ) -> AttemptResult:
        """Send to the recipients whom nothing stops by the time that there is a connection."""
        try:
            return await self._send(command, begun, progress)
        except RecipientsStopped as stopped:
            stops = stopped.stops
        events = self._stopped(command, claim, stops)
        others = tuple(each for each in command.recipients if each not in stops)
        if not others:
            return AttemptResult(events)
        # Each time there is one recipient less, so it ends.
        rest = outcome.again(command, others)
        result = await self._send_unstopped(rest, claim, begun, progress)
        return replace(result, events=result.events + events)

    def _stopped(
        self, command: SendEmail, claim: Claim, stops: Mapping[str, Stop]
    ) -> tuple[Outcome, ...]:
        """Return the events of stopped recipients; an orphan's mail may have been sent before."""
        fresh = {each: stop for each, stop in stops.items() if each in claim.fresh}
        orphans = [each for each in stops if each not in fresh]
        attempt = self._attempt_at(command, self.now())
        return attempt.all_stopped(fresh) + attempt.all_uncertain(orphans)

    def _attempt_at(self, command: SendEmail, at: datetime) -> Attempt:
        return Attempt(command, at, self.builder.message_id(command))

    async def _send(
        self, command: SendEmail, begun: datetime, progress: AttemptProgress
    ) -> AttemptResult:
        try:
            mail = await self.builder.build(command, begun)
        except ValueError:
            broken = self._attempt_at(command, begun)
            return AttemptResult(broken.all_failed(FailureReason.SEAL_BROKEN))
        result = await self.smtp.send(replace(mail, progress=progress))
        attempt = self._attempt_at(command, self.now())
        match result:
            case NotAttempted(seconds):
                return attempt.postpone(seconds, self.schedule)
            case Unsendable(reason):
                return AttemptResult(attempt.all_failed(reason))
        metrics.counter(metrics.ATTEMPTS, command.category, progress.relay).inc()
        _warn_of_trouble(result, progress, command.category)
        replied = replace(attempt, host=progress.host, suspected=progress.suspected)
        return replied.settle(result, self.schedule)

    async def _keep(self, command: SendEmail, claim: Claim, result: AttemptResult) -> AttemptResult:
        """Keep the outcomes of the attempt and return those to publish.

        An outcome for which the claim was lost is not published: another sender publishes its own.
        If the database is away, the outcomes are published all the same: they are the truth.
        """
        try:
            kept = tuple(await self.claims.settle(claim, result.events))
        except (Retry, Reject) as error:
            # Not published, the mail would certainly be sent again; not kept, only if its command
            # is delivered again.
            logger.error("an outcome was not kept", reason=str(error))  # noqa: TRY400 -- a line
            return result
        if lost := len(result.events) - len(kept):
            _lost(command, "settlement", lost)
            return replace(result, events=kept)
        return result

    def _later(
        self, command: SendEmail, recipients: Sequence[str], seconds: float
    ) -> Sequence[Reschedule]:
        """Return the same attempt again, for some of its recipients, if there are any."""
        if not recipients:
            return ()
        # A mail that is only put off must grow old too.
        seen = command.model_copy(update={"created_at": command.created_at or self.now()})
        return [Reschedule(outcome.again(seen, recipients), seconds)]


def _not_ahead(command: SendEmail, now: datetime) -> SendEmail:
    """Return a mail whose time of acceptance is not long after now.

    A clock was wrong: that of the publisher, or ours until it was put back. The mail's Date would
    be in the future (RFC 5322 3.6.1), and its age would begin to count then.
    """
    if command.created_at is None or command.created_at <= now + MAX_CLOCK_SKEW:
        return command
    logger.warning("accepted by a clock that is ahead", id=command.id, at=command.created_at)
    return command.model_copy(update={"created_at": now})


def _only(command: SendEmail, recipients: tuple[str, ...]) -> SendEmail:
    """Return the attempt for some of its recipients; the command itself for all of them."""
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


def _warn_of_trouble(result: Replies, progress: AttemptProgress, category: Category) -> None:
    """Warn once a mail of trouble that only an operator can solve."""
    of_relay = replies.sender_refused if progress.suspected else replies.about_us
    trouble = next(filter(of_relay, result.values()), None)
    if trouble is not None:
        logger.warning(
            "the relay is away or refuses us",
            stage=trouble.stage,
            code=trouble.code,
            reply=replies.redacted(trouble.text, of_code=category is Category.OTP),
        )


@dataclass(frozen=True, slots=True)
class StopHandlers:
    """Keeps what stops mails; each mail's claim looks at it."""

    store: StopStore
    claims: ClaimStore
    hasher: AddressHasher

    async def on_suppression(
        self, event: SuppressionAdded | SuppressionRemoved
    ) -> Sequence[Contract]:
        """Keep an entry of the suppression list.

        Safe to run twice and in any order: the highest version of an entry counts. Raises Reject
        when the ledger hashes with another key, since the entry would stop no mail.
        """
        email = event.suppression.email
        if email is not None and self.hasher.hash(email) != event.suppression.address_key:
            raise Reject("address_key: SUPPRESSION_KEY is not the same at the ledger and here")
        await self.store.apply(event)
        return []

    async def on_cancel_email(self, question: CancelEmail) -> Sequence[Contract]:
        """Keep a cancellation and answer with what is known of the recipients.

        Safe to run twice: a mail is cancelled once.
        """
        found = await self.store.cancel(client_key(question.client, question.email_id))
        return [EmailCancelling(id=question.id, **found._asdict())]

    async def on_forget_address(self, command: ForgetAddress) -> Sequence[Contract]:
        """Delete the outcomes for an address; the copy of the list has no addresses.

        Safe to run twice: nothing is left. An outcome that may still answer a copy of its command
        is deleted by the purge.
        """
        deleted = await self.claims.forget(command.email)
        logger.info("forgot an address", outcomes=deleted)
        return []


async def ask_for_copy(store: StopStore, publish: Callable[[Contract], Awaitable[None]]) -> None:
    """Ask the ledger for all entries when there is none here, as in a new database.

    Safe to repeat: a copy of an entry changes nothing.
    """
    if not await store.is_empty():
        return
    try:
        await publish(AnnounceSuppressions(id=str(uuid.uuid4())))
    except Unavailable as error:
        logger.warning("the suppression list was not asked for", reason=str(error))
