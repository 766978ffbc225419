"""The handlers of runs: what is reported of their mails, and mails that are sent once more."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import structlog

from services.scheduler import metrics
from services.scheduler.content import Content
from services.scheduler.handlers import SubscriptionHandlers
from services.scheduler.newsletters import CONTENT_TYPE, NewsletterMaker
from services.scheduler.plan import Key
from services.scheduler.rendering import RenderMails
from services.scheduler.store.content_types import ContentStore, Pause
from services.scheduler.store.runs import (
    COMPLAINT,
    UNKNOWN_MAILBOX,
    ReportCounts,
    RunCounts,
    RunStore,
)
from shared.contracts import (
    ClientRemoved,
    ContentTypePaused,
    Contract,
    EmailBounced,
    EmailsRepeated,
    ListRuns,
    RepeatEmails,
    ReplyClass,
    Report,
    ReportBounced,
    ReportComplained,
    RunsListed,
    SendEmail,
    SuppressionAdded,
    SuppressionOrigin,
)
from shared.contracts.content import NewsletterId, name_hash, run_id
from shared.template import RenderedMail

REMOVED = "the client was removed"


class StopRule(NamedTuple):
    """Pauses a content type when, of at least `mails` mails, more than a share were reported.

    The mails are those of a run, or of all runs of a day: where each subscription has a time of its
    own, a run has few. Those of before its last resumption count no more.
    """

    unknown_share: float
    complaint_share: float
    mails: int

    def reason(self, report: ReportCounts) -> str | None:
        """Return in words why a content type is paused, None if it is not."""
        return self._reason(report.run, "a run") or self._reason(report.day, "a day")

    def _reason(self, counts: RunCounts, whose: str) -> str | None:
        if counts.published < self.mails:
            return None
        for number, share, what in (
            (counts.unknown_mailboxes, self.unknown_share, "went to mailboxes that do not exist"),
            (counts.complaints, self.complaint_share, "were reported as spam"),
        ):
            if number > share * counts.published:
                return f"{number} of the {counts.published} mails of {whose} {what}"
        return None


logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunHandlers:
    """Counts reports on newsletters, and sends some once more.

    Safe to run twice: a report on a mail counts once, and pauses by an event with the same id; a
    mail that is sent once more has an id that follows from the one that did not arrive.
    """

    runs: RunStore
    contents: ContentStore
    subscriptions: SubscriptionHandlers
    maker: NewsletterMaker
    render: RenderMails
    rule: StopRule
    now: Callable[[], datetime]

    async def on_bounced(self, event: EmailBounced | ReportBounced) -> Sequence[Contract]:
        """Count a mailbox that does not exist; too many pause the content type."""
        if event.reply_class is not ReplyClass.MAILBOX_UNKNOWN:
            return ()
        return await self._report_mail(event, UNKNOWN_MAILBOX)

    async def on_complained(self, event: ReportComplained) -> Sequence[Contract]:
        """Count a complaint; too many pause the content type.

        The entry of the suppression list that follows from it counts no second time.
        """
        return await self._report_mail(event, COMPLAINT)

    async def on_suppression(self, event: SuppressionAdded) -> Sequence[Contract]:
        """Count a complaint about a newsletter, and end the subscriptions that it covers."""
        entry, messages = event.suppression, list[Contract]()
        newsletter = NewsletterId.read(entry.email_id or "")
        is_complaint = entry.origin is SuppressionOrigin.COMPLAINT
        if is_complaint and newsletter is not None and entry.email is not None:
            key = await self.runs.content_type_of(newsletter, entry.email, entry.client)
            if key is not None:
                messages += await self._report(key, newsletter, COMPLAINT)
        await self.subscriptions.on_suppression(event)
        return messages

    async def on_client_removed(self, event: ClientRemoved) -> Sequence[Contract]:
        """Pause the content types of a client: nobody has a key any more to end its newsletters."""
        pauses = await self.contents.pause_all(event.client, REMOVED, event.id)
        logger.info("paused the content types of a client", client=event.client, count=len(pauses))
        return [
            _paused(f"{event.id[:60]}.{name_hash(name)}", (event.client, name), pause)
            for name, pause in pauses.items()
        ]

    async def on_list_runs(self, asked: ListRuns) -> Sequence[Contract]:
        """Answer with a page of runs."""
        key = (asked.client or "", asked.name)
        found, after = await self.runs.page(key, asked.after, asked.limit)
        return [RunsListed(id=asked.id, runs=tuple(found), next=after)]

    async def on_repeat(self, asked: RepeatEmails) -> Sequence[Contract]:
        """Make mails of a run once more, of subscriptions that still exist; answer at the end."""
        key = (asked.client or "", asked.name)
        content = (await self.contents.find([key])).get(key)
        if content is None or content.paused:
            return [EmailsRepeated(id=asked.id, email_ids=())]
        wanted = {
            each.subscription: each
            for each in map(NewsletterId.read, asked.email_ids)
            if each is not None and run_id(asked.name, each.period) == asked.run_id
        }
        mails = await self._repeated(key, content, wanted)
        return [*mails.values(), EmailsRepeated(id=asked.id, email_ids=tuple(mails))]

    async def _repeated(
        self, key: Key, content: Content, wanted: dict[str, NewsletterId]
    ) -> dict[str, SendEmail]:
        """Return the mails by the ids of those that they repeat."""
        begun = [
            self.maker.begin(due, content, wanted[due.id].period, self.now())
            for due in await self.runs.subscriptions(key, [*wanted])
        ]
        mails = {}
        made = await self.render([each.request for each in begun])
        for each, rendered in zip(begun, made, strict=True):
            if isinstance(rendered, RenderedMail):  # else a newer version has other variables
                newsletter = wanted[each.due.id]
                again = {"id": str(newsletter.again())}
                mail = self.maker.finish(each, rendered)
                mails[str(newsletter)] = mail.model_copy(update=again)
        return mails

    async def _report_mail(self, event: EmailBounced | Report, kind: str) -> Sequence[Contract]:
        newsletter = NewsletterId.read(event.email_id)
        name = event.metadata.get(CONTENT_TYPE)
        if newsletter is None or name is None:
            return ()
        return await self._report((event.client or "", name), newsletter, kind)

    async def _report(self, key: Key, newsletter: NewsletterId, kind: str) -> Sequence[Contract]:
        counts = await self.runs.report(key, newsletter, kind)
        reason = counts and self.rule.reason(counts)
        pause = reason and await self.contents.pause(key, reason, str(newsletter))
        if not pause:
            return ()
        client, name = key
        # Also logged and counted: nobody may be listening to the event.
        logger.warning("a content type is paused", client=client, name=name, reason=pause.reason)
        metrics.PAUSED.inc()
        return [_paused(f"{newsletter}.paused", key, pause)]


def _paused(identifier: str, key: Key, pause: Pause) -> ContentTypePaused:
    client, name = key
    return ContentTypePaused(
        id=identifier, at=pause.at, name=name, client=client or None, reason=pause.reason
    )
