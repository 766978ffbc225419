"""The handlers of the scheduler's questions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson
import structlog

from services.scheduler.confirmation import confirmation, confirmation_link
from services.scheduler.content import MailRequest
from services.scheduler.rendering import Renderer, RenderingError
from services.scheduler.store.content_types import ContentStore
from services.scheduler.store.later import LaterStore
from services.scheduler.store.subscriptions import SubscriptionStore
from shared.contracts import (
    ConfirmSubscription,
    ContentRendered,
    ContentResult,
    ContentType,
    ContentTypeAnswered,
    ContentTypesListed,
    Contract,
    DeleteContentType,
    DescribeContentType,
    DescribeSubscription,
    EmailRescheduled,
    EndSubscription,
    ForgetAddress,
    ListContentTypes,
    ListSubscriptions,
    RenderContent,
    RescheduleEmail,
    ResumeContentType,
    SaveContentType,
    SchedulingAnswered,
    SchedulingResult,
    SendEmail,
    Subscribe,
    SubscriptionAnswered,
    SubscriptionResult,
    SubscriptionsListed,
    SuppressionAdded,
    SuppressionOrigin,
    UnscheduleEmail,
)
from shared.contracts.schedule import MAX_SCHEDULE
from shared.errors import Reject
from shared.links import Links
from shared.runtime import tracing
from shared.template import MailTemplate, TemplateMistake, VariableMistake

# Each may take half a second and the start of a process; other questions wait behind them.
MAX_WAITING_RENDERINGS = 4
# A day more than the gateway allows: its clock, or that of a program, may be ahead.
MAX_WAIT = MAX_SCHEDULE + timedelta(days=1)
logger = structlog.get_logger(__name__)

_OPT_OUTS = (SuppressionOrigin.UNSUBSCRIBE, SuppressionOrigin.COMPLAINT)


@dataclass(frozen=True, slots=True)
class ContentHandlers:
    """Keeps content types, and makes mails of them.

    Safe to run twice: saved again, the same templates are no new version.
    """

    contents: ContentStore
    renderer: Renderer

    async def on_save(self, asked: SaveContentType) -> Sequence[Contract]:
        """Create or replace a content type. Raises Reject for templates that cannot be read."""
        try:
            MailTemplate(asked.subject, asked.text, asked.html)
        except TemplateMistake as error:
            raise Reject(f"{error.part}: {error}") from None
        result, found = await self.contents.save(asked)
        return [ContentTypeAnswered(id=asked.id, result=result, content_type=found)]

    async def on_describe(self, asked: DescribeContentType) -> Sequence[Contract]:
        """Answer with a content type."""
        return [_found(asked.id, await self.contents.describe((asked.client or "", asked.name)))]

    async def on_delete(self, asked: DeleteContentType) -> Sequence[Contract]:
        """Delete a content type that no subscription has."""
        result = await self.contents.delete((asked.client or "", asked.name))
        return [ContentTypeAnswered(id=asked.id, result=result)]

    async def on_resume(self, asked: ResumeContentType) -> Sequence[Contract]:
        """Send the mail of a content type again."""
        return [_found(asked.id, await self.contents.resume((asked.client or "", asked.name)))]

    async def on_list(self, asked: ListContentTypes) -> Sequence[Contract]:
        """Answer with a page of content types."""
        found, after = await self.contents.page(asked)
        return [ContentTypesListed(id=asked.id, content_types=tuple(found), next=after)]

    async def on_render(self, asked: RenderContent) -> Sequence[Contract]:
        """Answer with a mail, or with the mistake in its variables."""
        key = (asked.client or "", asked.name)
        content = (await self.contents.find([key])).get(key)
        if content is None:
            return [ContentRendered(id=asked.id)]
        if self.renderer.waiting >= MAX_WAITING_RENDERINGS:
            return [ContentRendered(id=asked.id, version=content.version, busy=True)]
        request = MailRequest(content, orjson.dumps(asked.variables).decode())
        (mail,) = await self.renderer.render([request])
        if isinstance(mail, VariableMistake):
            return [ContentRendered(id=asked.id, version=content.version, mistake=str(mail))]
        if isinstance(mail, RenderingError):
            raise mail
        return [
            ContentRendered(
                id=asked.id,
                version=content.version,
                subject=mail.subject,
                html=mail.html,
                text=mail.text,
            )
        ]


def _found(identifier: str, found: ContentType | None) -> ContentTypeAnswered:
    result = ContentResult.UNKNOWN if found is None else ContentResult.FOUND
    return ContentTypeAnswered(id=identifier, result=result, content_type=found)


@dataclass(frozen=True, slots=True)
class SubscriptionHandlers:
    """Keeps subscriptions, and ends them.

    Safe to run twice: a subscription is one of its client, content type and address, and the mail
    that asks to confirm it has the id of the question.
    """

    subscriptions: SubscriptionStore
    contents: ContentStore
    links: Links
    sender: str | None
    now: Callable[[], datetime]
    pending: timedelta  # the time to confirm in

    async def on_subscribe(self, asked: Subscribe) -> Sequence[Contract]:
        """Add or change a subscription; ask the subscriber to confirm one that is pending."""
        result, found, asks = await self.subscriptions.subscribe(asked)
        answer = SubscriptionAnswered(id=asked.id, result=result, subscription=found)
        if found is None or not asks:
            return [answer]
        content = await self.contents.describe((found.client or "", found.content_type))
        title = (content and content.title) or found.content_type
        identifier = f"{asked.id[:80]}.confirm"
        now = self.now()
        link = confirmation_link(found, self.links, now + self.pending)
        mail = confirmation(identifier, found, title, link, now)
        return [answer, mail.model_copy(update={"from_": self.sender})]

    async def on_confirm(self, asked: ConfirmSubscription) -> Sequence[Contract]:
        """Mail a subscription from now on; the same if it is so already."""
        result, found, _ = await self.subscriptions.confirm(asked.subscription_id)
        return [SubscriptionAnswered(id=asked.id, result=result, subscription=found)]

    async def on_describe(self, asked: DescribeSubscription) -> Sequence[Contract]:
        """Answer with a subscription."""
        found = await self.subscriptions.describe(asked.subscription_id, asked.client)
        result = SubscriptionResult.UNKNOWN if found is None else SubscriptionResult.FOUND
        return [SubscriptionAnswered(id=asked.id, result=result, subscription=found)]

    async def on_end(self, asked: EndSubscription) -> Sequence[Contract]:
        """End a subscription."""
        result = await self.subscriptions.end(asked.subscription_id, asked.client)
        return [SubscriptionAnswered(id=asked.id, result=result)]

    async def on_list(self, asked: ListSubscriptions) -> Sequence[Contract]:
        """Answer with a page of subscriptions."""
        found, after = await self.subscriptions.page(asked)
        return [SubscriptionsListed(id=asked.id, subscriptions=tuple(found), next=after)]

    async def on_suppression(self, event: SuppressionAdded) -> Sequence[Contract]:
        """End the subscriptions that an opt-out or a complaint covers.

        The sender stops what is already queued. A bounce may be mistaken, and ends none.
        """
        entry = event.suppression
        if entry.email is not None and entry.origin in _OPT_OUTS:
            await self.subscriptions.opt_out(entry.email, entry.client, entry.list_id, entry.at)
        return ()


@dataclass(frozen=True, slots=True)
class ForgetHandlers:
    """Deletes a person. Safe to run twice: nothing is left."""

    subscriptions: SubscriptionStore
    mails: LaterStore

    async def on_forget(self, command: ForgetAddress) -> Sequence[Contract]:
        """Delete what is kept of an address."""
        mails = await self.mails.forget(command.email)
        ended = await self.subscriptions.forget(command.email)
        logger.info("forgot an address", mails=mails, subscriptions=ended)
        return ()


@dataclass(frozen=True, slots=True)
class LaterHandlers:
    """Keeps mails for later. Safe to run twice: a mail is one of its client and id.

    Each raises Reject for a time that is more than MAX_WAIT ahead: by a program's mistake a mail
    would wait for ever, and nobody would see it. As a dead letter it is seen.
    """

    mails: LaterStore
    now: Callable[[], datetime]

    async def on_send_email(self, command: SendEmail) -> Sequence[Contract]:
        """Keep a mail until its time."""
        self._check_time(command.scheduled_at)
        await self.mails.keep(command, tracing.traceparent())
        return ()

    async def on_reschedule(self, asked: RescheduleEmail) -> Sequence[Contract]:
        """Change the time of a mail that is not yet on its way."""
        self._check_time(asked.scheduled_at)
        changed = await self.mails.reschedule(asked.client, asked.email_id, asked.scheduled_at)
        if changed is None:
            return [SchedulingAnswered(id=asked.id, result=SchedulingResult.UNKNOWN)]
        event = EmailRescheduled(
            id=f"{asked.id[:80]}.rescheduled",
            at=changed,
            email_id=asked.email_id,
            client=asked.client,
            scheduled_at=asked.scheduled_at,
        )
        return [SchedulingAnswered(id=asked.id, result=SchedulingResult.DONE), event]

    async def on_unschedule(self, asked: UnscheduleEmail) -> Sequence[Contract]:
        """Cancel a mail that is not yet on its way; the release reports it."""
        done = await self.mails.unschedule(asked.client, asked.email_id)
        result = SchedulingResult.DONE if done else SchedulingResult.UNKNOWN
        return [SchedulingAnswered(id=asked.id, result=result)]

    def _check_time(self, at: datetime | None) -> None:
        if at is not None and at - self.now() > MAX_WAIT:
            raise Reject(f"scheduled_at: must be at most {MAX_SCHEDULE.days} days ahead of now")
