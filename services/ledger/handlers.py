"""The handlers of the ledger: mails, questions about them, and the suppression list."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog

from services.ledger import answers
from services.ledger.mails import (
    CATEGORIES,
    FORGOTTEN,
    HOUR_MILLISECONDS,
    acceptance,
    early_outcome,
    milliseconds,
    reported,
    rescheduling,
)
from services.ledger.store.forgetting import AddressForgetter
from services.ledger.store.reader import MailFilter, MailReader
from services.ledger.store.recording import MailRecord, MailStore
from services.ledger.store.reported import ReportedMails
from services.ledger.store.suppressing import SuppressionStore
from services.ledger.store.totals import TotalFilter, TotalReader
from services.ledger.suppressions import StoredSuppression, SuppressingEvent, cause
from shared.contracts import (
    AcceptedEmail,
    AddSuppressions,
    AnnounceSuppressions,
    Contract,
    CountEmails,
    DescribeEmail,
    DescribeSuppression,
    EmailDescribed,
    EmailFound,
    EmailRescheduled,
    EmailsCounted,
    EmailsListed,
    FindEmail,
    ForgetAddress,
    ListEmails,
    ListSuppressions,
    Outcome,
    RemoveSuppressions,
    Report,
    Suppression,
    SuppressionsChanged,
    SuppressionsListed,
)
from shared.contracts.ledger import MAX_PERIODS
from shared.errors import Reject

logger = structlog.get_logger(__name__)

RecordedMessage = AcceptedEmail | EmailRescheduled | Outcome | Report
PART_SIZE = 128  # messages, of which records are made in about a millisecond


@dataclass(frozen=True, slots=True)
class MailHandlers:
    """Records commands, outcomes, reports, and changes of the times of mails for later.

    Safe to run twice, and in any order: the state of a mail follows from the set of its commands
    and outcomes, see `mails.rank`. The first command of an id counts; a later one only adds
    recipients that were not in it, as the sender does. The command that the scheduler publishes at
    the time of a mail has the same time of acceptance, so either of the two may be the first.
    """

    store: MailStore
    on_refused: Callable[[SuppressingEvent], Awaitable[None]]

    async def on_batch(self, messages: Sequence[RecordedMessage]) -> None:
        """Record messages in one transaction; bounces and complaints may suppress addresses."""
        records = list[MailRecord]()
        for start in range(0, len(messages), PART_SIZE):
            records += map(_record, messages[start : start + PART_SIZE])
            await asyncio.sleep(0)  # questions have their turn
        await self.store.record_all(records)
        refusals = [each for each in messages if isinstance(each, SuppressingEvent)]
        await asyncio.gather(*map(self.on_refused, refusals))

    async def on_accepted(self, command: AcceptedEmail) -> Sequence[Contract]:
        """Record an accepted mail."""
        await self.store.record(acceptance(command))
        return ()

    async def on_outcome(self, event: Outcome | Report) -> Sequence[Contract]:
        """Record an outcome or a report; a bounce or a complaint may suppress its address."""
        await self.store.record(_record(event))
        if isinstance(event, SuppressingEvent):
            await self.on_refused(event)
        return ()

    async def on_rescheduled(self, event: EmailRescheduled) -> Sequence[Contract]:
        """Record another time of a mail for later."""
        await self.store.record(rescheduling(event))
        return ()


@dataclass(frozen=True, slots=True)
class MailQueryHandlers:
    """Answers questions about mails. Changes nothing, so each can be asked again."""

    mails: MailReader
    reported: ReportedMails
    totals: TotalReader

    async def on_describe_email(self, question: DescribeEmail) -> Sequence[Contract]:
        """Answer with a mail and its history; with neither for another client's.

        If several clients have a mail of this id, and none is named, answer with the clients.
        """
        mail = await self.mails.find(question.email_id, question.client)
        if mail is None:
            owners = await self.mails.owners(question.email_id, question.client)
            return [EmailDescribed(id=question.id, **owners._asdict())]
        return [
            EmailDescribed.model_construct(
                id=question.id, email=answers.record(mail), history=tuple(answers.history(mail))
            )
        ]

    async def on_find_email(self, question: FindEmail) -> Sequence[Contract]:
        """Answer with the mail that a report is about, and its recipient."""
        return [EmailFound(id=question.id, email=await self.reported.find(question))]

    async def on_list_emails(self, question: ListEmails) -> Sequence[Contract]:
        """Answer with a page of mails, the newest first."""
        page = await self.mails.page(MailFilter.of(question), question.limit)
        return [
            EmailsListed.model_construct(
                id=question.id,
                emails=tuple(map(answers.record, page.mails)),
                next=answers.cursor(page.next) if page.next else None,
            )
        ]

    async def on_count_emails(self, question: CountEmails) -> Sequence[Contract]:
        """Answer with the sums over whole hours of UTC, and those of each period.

        Raises Reject for a time zone that is not known, and for too many periods.
        """
        zone, wanted = _zone(question.timezone), _totals_of(question)
        rows = await self.totals.by_hour(wanted)
        periods = answers.by_day(rows, zone) if question.by == "day" else answers.by_hour(rows)
        return [
            EmailsCounted(
                id=question.id,
                periods=tuple(periods) if question.by else (),
                total=answers.total(answers.hour_moment(wanted.first), rows),
            )
        ]


def _record(message: RecordedMessage) -> MailRecord:
    if isinstance(message, AcceptedEmail):
        return acceptance(message)
    if isinstance(message, EmailRescheduled):
        return rescheduling(message)
    if isinstance(message, Report):
        return reported(message)
    return early_outcome(message)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Reject(f"timezone: {name!r} is not known") from None


def _totals_of(question: CountEmails) -> TotalFilter:
    if question.tag is not None and question.domain is not None:
        raise Reject("tag: must not be together with a domain")
    if question.until - question.since > MAX_PERIODS * timedelta(hours=1):
        raise Reject(f"until: must be at most {MAX_PERIODS} hours after since")
    dimension, value = "", ""
    if question.forgotten:
        dimension = FORGOTTEN
    elif question.tag is not None:
        dimension, value = "tag", question.tag
    elif question.domain is not None:
        dimension, value = "domain", question.domain
    return TotalFilter(
        question.client,
        dimension,
        value,
        None if question.category is None else CATEGORIES.index(question.category),
        milliseconds(question.since) // HOUR_MILLISECONDS,
        -(-milliseconds(question.until) // HOUR_MILLISECONDS),
    )


@dataclass(frozen=True, slots=True)
class SuppressionHandlers:
    """Changes the suppression list and answers questions about it.

    Each change is committed before the answer, and its event is published after it.
    """

    store: SuppressionStore
    forgetter: AddressForgetter

    async def on_refused(self, event: SuppressingEvent) -> None:
        """Suppress an address that does not exist, or whose person has complained.

        Safe to run twice: each counts once.
        """
        if (found := cause(event)) is not None:
            await self.store.suppress(found)

    async def on_add(self, question: AddSuppressions) -> Sequence[Contract]:
        """Add entries. Safe to run twice: an entry that is the same stays as it is."""
        changed = await self.store.add(question.suppressions)
        return [SuppressionsChanged(id=question.id, suppressions=_shown(changed))]

    async def on_remove(self, question: RemoveSuppressions) -> Sequence[Contract]:
        """Remove entries. Safe to run twice: the second time there are none."""
        asked = (question.emails, question.client, question.origin, question.list_id)
        changed = await self.store.remove(*asked)
        return [SuppressionsChanged(id=question.id, suppressions=_shown(changed))]

    async def on_describe(self, question: DescribeSuppression) -> Sequence[Contract]:
        """Answer with the entries of an address. Changes nothing."""
        found = await self.store.describe(question.email, question.client)
        return [SuppressionsListed(id=question.id, suppressions=_shown(found))]

    async def on_list(self, question: ListSuppressions) -> Sequence[Contract]:
        """Answer with a page of entries. Changes nothing."""
        found, after = await self.store.page(question)
        return [SuppressionsListed(id=question.id, suppressions=_shown(found), next=after or None)]

    async def on_forget(self, command: ForgetAddress) -> Sequence[Contract]:
        """Forget a person; of an opt-out the hash stays. Safe to run twice: nothing is left."""
        await self.store.forget(command.email)
        deleted = await self.forgetter.forget(command.email)
        logger.info("forgot an address", mails=deleted)
        return ()

    async def on_announce(self, _: AnnounceSuppressions) -> Sequence[Contract]:
        """Mark all entries to be announced again. Safe to run twice: copies are harmless."""
        await self.store.announce_again()
        return ()


def _shown(entries: Sequence[StoredSuppression]) -> tuple[Suppression, ...]:
    return tuple(each.suppression for each in entries)
