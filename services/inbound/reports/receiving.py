"""A mail that came to a return path: read, found in the ledger, and published as a report."""

import uuid
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from services.inbound import metrics
from services.inbound.reports.events import event_of
from services.inbound.reports.kept import KeptMails
from services.inbound.reports.reading import MailKind, Reading
from shared.contracts import Contract, EmailFound, FindEmail, MailReceived, MailReference
from shared.errors import NoAnswer, Unavailable
from shared.return_path import ReturnedMail, ReturnPaths

ACCEPTED = "250 2.0.0 Read"
KEPT = "250 2.0.0 Kept"
AWAY = "451 4.3.0 Reports cannot be kept now, please try again later"
NO_STORAGE = "452 4.3.1 Mail cannot be kept now, please try again later"
NEW_DAYS = 1  # of a return path: the ledger may be behind with the mails of these days
_FINAL = frozenset({MailKind.DSN, MailKind.ARF})

logger = structlog.get_logger(__name__)


class Asker(Protocol):
    """The broker, as a receiver uses it."""

    async def publish(self, message: Contract) -> None:
        """Publish an event; return when it is kept. Raises Unavailable."""

    async def ask(self, question: Contract, within: float) -> Contract:
        """Return the answer to a question. Raises Unavailable or NoAnswer."""


@dataclass(frozen=True, slots=True)
class ArrivedMail:
    """A mail as it came: its envelope, and its first octets."""

    sender: str
    recipients: Sequence[str]
    content: bytes


@dataclass(frozen=True, slots=True)
class ReportReceiver:
    """Receives mails for the return paths of a domain.

    Safe to repeat: a report has the same id each time, and a mail that came again changes nothing.
    """

    broker: Asker
    read: Callable[[bytes], Awaitable[Reading]]
    kept: KeptMails
    paths: ReturnPaths
    answer_seconds: float
    now: Callable[[], datetime]
    publishes_others: bool = False  # whether a mail that is no report becomes an event

    def returned(self, address: str) -> ReturnedMail | None:
        """Return the mail of a return path that a sender has signed, None for another address."""
        return self.paths.read(address, self.now().date())

    async def receive(self, mail: ArrivedMail) -> str:
        """Return the reply to a mail for some return paths, or for another address of ours.

        A mail to another address, such as that of a feedback loop, is about the return paths that
        it names. It is accepted when each of its events is confirmed, and refused for a while when
        the ledger or the broker is away.
        """
        reading = await self.read(mail.content)
        metrics.RECEIVED.labels(reading.kind).inc()
        if reading.kind is MailKind.AUTOMATIC:
            return ACCEPTED
        try:
            if reading.kind is MailKind.OTHER and self.publishes_others:
                await self._publish_received(mail, reading)
                return ACCEPTED
            about = self._about(mail, reading) if reading.kind in _FINAL else ()
            if not about:
                await self.kept.keep(mail.content)
                return KEPT
            for each in about:
                await self._report(each, reading)
        except (Unavailable, NoAnswer) as error:
            logger.warning("a report was put off", reason=str(error))
            return AWAY
        except OSError as error:
            logger.error("a mail was not kept", reason=str(error))  # noqa: TRY400 -- a line
            return NO_STORAGE
        return ACCEPTED

    def _about(self, mail: ArrivedMail, reading: Reading) -> Collection[ReturnedMail]:
        """Return the mails of its return paths, or those that a report names by theirs."""
        for addresses in (mail.recipients, reading.paths):
            found = {*map(self.returned, addresses)} - {None}
            if found:
                return [each for each in found if each is not None]
        return ()

    async def _publish_received(self, mail: ArrivedMail, reading: Reading) -> None:
        """Publish a mail that is no report, once for each address that it came to."""
        for to in mail.recipients:
            returned = self.returned(to)
            event = MailReceived.about(
                None if returned is None else await self._find(returned),
                mail.content,
                at=self.now(),
                sender=mail.sender,
                to=to,
                headers=[{"name": name, "value": value} for name, value in reading.headers],
                text=reading.text,
                is_cut=reading.is_cut,
            )
            await self.broker.publish(event)
            logger.info("mail received", email_id=event.email_id)

    async def _report(self, returned: ReturnedMail, reading: Reading) -> None:
        mail = await self._find(returned)
        event = None if mail is None else event_of(reading, mail, self.now())
        if event is not None:
            await self.broker.publish(event)
            end = event.kind.value
        else:
            end = "unknown" if mail is None else "ignored"
        metrics.REPORTS.labels(end).inc()
        logger.info(
            "report",
            end=end,
            kind=str(reading.kind),
            reporter=reading.reporter[:100],
            email_id=mail and mail.email_id,
        )

    async def _find(self, returned: ReturnedMail) -> MailReference | None:
        """Return the mail, None if the ledger has it no more.

        Raises Unavailable, also while the ledger may not have it yet: a report can come before the
        ledger has recorded its mail.
        """
        question = FindEmail(
            id=str(uuid.uuid4()),
            mail_key=returned.mail_key.hex(),
            address_hash=returned.address_hash,
        )
        answer = await self.broker.ask(question, self.answer_seconds)
        found = answer.email if isinstance(answer, EmailFound) else None
        if found is None and returned.age_days <= NEW_DAYS:
            raise Unavailable("the ledger has not recorded the mail yet")
        return found
