"""What the sender does with a command, one object for each sending class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from services.sender import metrics, outcome
from services.sender import reply as replies
from services.sender.compose import Mail
from services.sender.outcome import Reason, Replies, Unsendable
from services.sender.schedule import Schedule
from shared import log
from shared.contracts import Contract, Outcome, SendEmail
from shared.retry import Later

logger = structlog.get_logger(__name__)


class Smtp(Protocol):
    """What takes a mail to the relay."""

    async def send(self, mail: Mail) -> Replies | Unsendable:
        """Run one transaction and give the reply that settled each recipient."""


class Writer(Protocol):
    """What makes a mail of a command."""

    async def write(self, command: SendEmail, now: datetime) -> Mail:
        """Give the mail. Raises ValueError when its content cannot be opened."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends the mails of one class."""

    smtp: Smtp
    writer: Writer
    now: Callable[[], datetime]
    schedule: Schedule

    async def on_send_email(self, command: SendEmail) -> Sequence[Contract | Later]:
        """Try once to send a mail to its pending recipients and tell each one's outcome.

        Run twice, it mails twice. It runs twice for a command that was redelivered after the
        process died, or lost the broker, between the final dot and the acknowledgement. Both
        copies have the same Message-ID, by which a mailbox can tell, and equal outcomes have
        equal event ids, so that nobody counts them twice.
        """
        told = await self._attempt(command)
        for item in told:
            if isinstance(item, Outcome):
                _report(item)
        return told

    async def _attempt(self, command: SendEmail) -> Sequence[Contract | Later]:
        begun = self.now()
        if outcome.expired(command, begun):
            return outcome.all_expired(command, begun)
        try:
            mail = await self.writer.write(command, begun)
        except ValueError:
            return outcome.all_failed(command, Reason.SEAL_BROKEN, begun)
        result = await self.smtp.send(mail)
        if isinstance(result, Unsendable):
            return outcome.all_failed(command, result.reason, self.now())
        _warn_of_trouble(result)
        return outcome.settle(command, result, self.schedule, self.now())


def _report(event: Outcome) -> None:
    kind = event.routing_key.removeprefix("email.")
    metrics.OUTCOMES.labels(event.category, kind).inc()
    reply = event.reply
    logger.info(
        kind,
        recipient=log.masked(event.recipient),
        attempt=event.attempt,
        stage=reply and reply.stage,
        code=reply and reply.code,
        enhanced=reply and reply.enhanced,
    )


def _warn_of_trouble(heard: Replies) -> None:
    """Tell the operator, once a mail, what only the operator can put right."""
    trouble = next(filter(replies.about_us, heard.values()), None)
    if trouble is not None:
        logger.warning(
            "the relay is away or refuses us",
            stage=trouble.stage,
            code=trouble.code,
            reply=trouble.text,
        )
