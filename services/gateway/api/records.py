"""The records of accepted messages: read, listed, and cancelled before they are sent."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from aiohttp import web
from pydantic import ConfigDict, Field, ValidationError

from services.gateway.api.body import RFC3339_TIME, RequestBody, StrictModel, read_query
from services.gateway.api.openapi import Access, Operation, Success
from services.gateway.api.outcomes import SmtpReply
from services.gateway.api.problem import (
    NO_SUCH_MESSAGE,
    NOT_SCHEDULED,
    SHARED_ID,
    TOO_LATE,
    Problem,
    invalid,
)
from services.gateway.api.request import REPEATABLE, SUBJECT, client_of
from services.gateway.api.response import AskingViews, ResponseBody, respond
from services.gateway.api.schedule import SCHEDULED_AT, schedule_refusal
from shared.contracts import (
    CancelEmail,
    Category,
    DescribeEmail,
    EmailCancelling,
    EmailDescribed,
    EmailRecord,
    EmailsListed,
    EmailStatus,
    HistoryEntry,
    ListEmails,
    RecipientStatus,
    Reply,
    ReplyClass,
    ReportKind,
    ReportSource,
    RescheduleEmail,
    SchedulingAnswered,
    SchedulingResult,
    UnscheduleEmail,
)
from shared.contracts.clients import Scope
from shared.contracts.fields import Address, Moment, Tag
from shared.contracts.ledger import MAX_LISTED_EMAILS, OwnerName, PageCursor, TagLabel

DEFAULT_PAGE_SIZE = 50  # messages
# Before each further question about a message that the ledger does not know: it reads the copy of
# the command a moment after the 202. Together about a second; every unknown id costs as much.
WAITS_SECONDS = (0.025, 0.05, 0.1, 0.2, 0.3, 0.3)


class MessageQuery(StrictModel):
    """The query for a page of the messages; each parameter leaves fewer of them."""

    recipient: Address | None = Field(None, description="One of its recipients")
    status: EmailStatus | None = Field(None, description="Of one of its recipients")
    category: Category | None = None
    tag: TagLabel | None = Field(None, description="`name`, or `name:value`")
    since: Annotated[Moment | None, RFC3339_TIME] = Field(
        None, description="Accepted at this time or later"
    )
    until: Annotated[Moment | None, RFC3339_TIME] = Field(
        None, description="Accepted before this time"
    )
    after: PageCursor | None = Field(None, description="`next` of the page before")
    limit: int = Field(DEFAULT_PAGE_SIZE, ge=1, le=MAX_LISTED_EMAILS, description="Messages a page")


class OwnerQuery(StrictModel):
    """The query for one message."""

    client: OwnerName | None = Field(
        None,
        description="Of the administrator alone: the client whose message it is, empty for none. "
        "Ids in batches are the clients' own, so several may have the same",
    )


class RecipientRecord(ResponseBody):
    """The state of a message for one recipient: its final outcome, or else its latest one."""

    recipient: str
    status: EmailStatus = Field(
        description="waiting: no attempt yet; deferred: there will be another; others are final"
    )
    attempts: int = Field(description="How many attempts had an outcome")
    at: datetime | None = Field(None, description="Of the outcome; absent while waiting")
    reply: SmtpReply | None = None
    reply_class: ReplyClass | None = Field(None, description="The class of the refusal")
    reason: str | None = None

    @classmethod
    def of(cls, status: RecipientStatus) -> "RecipientRecord":
        """Return the body of a status."""
        fields = dict(status) | {"reply": _reply(status.reply)}
        return cls.model_construct(**fields)


class AttemptRecord(ResponseBody):
    """An outcome of a message for one recipient at one attempt, or a later report about it."""

    status: EmailStatus
    attempt: int = Field(description="The number of the attempt, from 1")
    at: datetime
    reply: SmtpReply | None = None
    reply_class: ReplyClass | None = None
    reason: str | None = None
    retry_after: float | None = Field(None, description="Mean seconds until the next attempt")
    report: ReportKind | None = Field(None, description="Of a report; `status` follows from it")
    source: ReportSource | None = Field(None, description="Of a report: its form or its provider")
    reporter: str | None = Field(None, description="Of a report: the server that made it")

    @classmethod
    def of(cls, entry: HistoryEntry) -> "AttemptRecord":
        """Return the body of an entry."""
        fields = dict(entry) | {"reply": _reply(entry.reply)}
        del fields["recipient"]
        return cls.model_construct(**fields)


class RecipientDetails(RecipientRecord):
    """The state of a message for one recipient, with its history."""

    history: list[AttemptRecord] = Field(description="The outcomes, the oldest first")


class MessageRecord(ResponseBody):
    """The facts that are kept of a message: never a text, an attachment or a code."""

    id: str
    client: str | None = None
    status: Literal["accepted", "final"] = Field(
        description="final: every recipient has its outcome"
    )
    category: Category
    from_: str | None = Field(None, alias="from")
    subject: str | None = Field(None, description="Absent for a mail of the category otp")
    list_id: str | None = None
    tags: list[Tag]
    metadata: dict[str, str]
    size_bytes: int = Field(description="Of the message with its content, as it was stored")
    message_id: str | None = Field(
        None, description="The Message-ID header (RFC 5322 3.6.4); absent before the first attempt"
    )
    created_at: datetime = Field(description="When it was accepted")
    expires_at: datetime | None = None
    scheduled_at: datetime | None = Field(None, description="It waits, or has waited, until then")
    recipients: list[RecipientRecord]

    @classmethod
    def of(cls, email: EmailRecord, recipients: Sequence[RecipientRecord] = ()) -> "MessageRecord":
        """Return the body of a mail, with the given bodies of its recipients if there are any."""
        is_final = all(each.status.ended for each in email.recipients)
        fields = dict(email) | {
            "id": email.email_id,
            "status": "final" if is_final else "accepted",
            "tags": [
                Tag.model_construct(name=name, value=value) for name, value in email.tags.items()
            ],
            "created_at": email.accepted_at,
            "recipients": recipients or [*map(RecipientRecord.of, email.recipients)],
        }
        return cls.model_construct(**{name: fields[name] for name in cls.model_fields})


class MessageDetails(MessageRecord):
    """The facts that are kept of a message, with the history of each recipient."""

    recipients: list[RecipientDetails]  # type: ignore[assignment] # read only


class MessageRecords(ResponseBody):
    """A page of the messages, the newest first."""

    messages: list[MessageRecord]
    next: str | None = Field(None, description="`after` of the next page; absent at the last one")


class Cancelling(ResponseBody):
    """The cancellation is kept: what is not yet being sent will not be sent."""

    id: str
    status: Literal["cancelling"] = "cancelling"
    cancelled: int = Field(description="Recipients that have ended or will end as cancelled")
    undecided: int = Field(
        description="Recipients with an attempt under way: their outcome says whether it sends"
    )
    ended: int = Field(description="Recipients that have another final outcome")

    @classmethod
    def of_all(cls, email: EmailRecord) -> "Cancelling":
        """Return the body of a mail whose recipients have all ended, or will end as cancelled."""
        states = [each.status for each in email.recipients]
        ended = sum(each.ended and each is not EmailStatus.CANCELLED for each in states)
        return cls(id=email.email_id, cancelled=len(states) - ended, undecided=0, ended=ended)

    @classmethod
    def of(cls, email: EmailRecord, answer: EmailCancelling) -> "Cancelling":
        """Return the body of a mail by the answer of the sender."""
        cancelled = answer.waiting + answer.cancelled
        if not cancelled + answer.undecided + answer.ended:
            cancelled = len(email.recipients)  # there was no attempt, and there will be none
        return cls(
            id=email.email_id,
            cancelled=cancelled,
            undecided=answer.undecided,
            ended=answer.ended,
        )


class MessageChange(RequestBody):
    """Asks for a message to be sent at another time."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"scheduled_at": "2026-12-24T18:00:00Z"}]}
    )

    scheduled_at: Annotated[Moment, RFC3339_TIME] = Field(description=SCHEDULED_AT)


class Rescheduled(ResponseBody):
    """The message waits until another time."""

    id: str
    scheduled_at: datetime


LIST_MESSAGES = Operation(
    "listMessages",
    "GET /v1/messages",
    "List messages, the newest first",
    (Success(200, "A page of them", MessageRecords),),
    Access.ANY,
    Scope.READ,
    query=MessageQuery,
    description="A message appears a moment after its 202.",
)
GET_MESSAGE = Operation(
    "getMessage",
    "GET /v1/messages/{id}",
    "Ask what became of a message",
    (Success(200, "The state and the history of each recipient", MessageDetails),),
    Access.ANY,
    Scope.READ,
    query=OwnerQuery,
    problems=(NO_SUCH_MESSAGE, SHARED_ID),
    description="Right after the 202 the answer waits up to a second for the message to be "
    "recorded. A 404 of a message that was accepted just now means that the records are late.",
)
PATCH_MESSAGE = Operation(
    "patchMessage",
    "PATCH /v1/messages/{id}",
    "Change the time of a message",
    (Success(200, "It waits until then", Rescheduled),),
    Access.ANY,
    Scope.SEND,
    body=MessageChange,
    query=OwnerQuery,
    problems=(NO_SUCH_MESSAGE, SHARED_ID, NOT_SCHEDULED),
    description="Of a message with `scheduled_at` that still waits. The records show the new time "
    "a moment later.",
)
DELETE_MESSAGE = Operation(
    "deleteMessage",
    "DELETE /v1/messages/{id}",
    "Cancel a message",
    (Success(202, "What is not yet being sent will not be sent", Cancelling),),
    Access.ANY,
    Scope.SEND,
    query=OwnerQuery,
    problems=(NO_SUCH_MESSAGE, SHARED_ID, TOO_LATE),
    description="Each recipient without an attempt under way ends as `cancelled`, as soon as its "
    "next attempt is due, and at once if the message waits for its time. An attempt under way may "
    "still send, or end as `cancelled`: the outcome of each recipient says which. It is too late "
    "once every recipient has its final outcome and none is `cancelled`. Safe to ask again.",
)


class RecordViews(AskingViews):
    """Asks the ledger about messages, and the scheduler and the sender to change or cancel."""

    async def list(self, request: web.Request) -> web.Response:
        """Return a page of the messages."""
        query = read_query(MessageQuery, request.query)
        question = ListEmails.model_construct(
            id=self.new_id(), client=client_of(request), **query.__dict__
        )
        page = await self.ask(question, EmailsListed)
        found = [MessageRecord.of(email) for email in page.emails]
        return respond(200, MessageRecords(messages=found, next=page.next))

    async def get(self, request: web.Request) -> web.Response:
        """Return a message with its history."""
        email, entries = await self._describe(request, read_query(OwnerQuery, request.query))
        history = defaultdict(list)
        for each in entries:
            history[each.recipient].append(AttemptRecord.of(each))
        recipients = [
            RecipientDetails.model_construct(
                **dict(RecipientRecord.of(each)), history=history[each.recipient]
            )
            for each in email.recipients
        ]
        return respond(200, MessageDetails.of(email, recipients))

    async def patch(self, request: web.Request) -> web.Response:
        """Change the time of a message that waits for it."""
        request[REPEATABLE] = True
        query = read_query(OwnerQuery, request.query)
        change, _ = await self.reader.read(request, MessageChange)
        email, _ = await self._describe(request, query)
        now = self.reader.new_stamp().at
        if refusal := schedule_refusal(change.scheduled_at, now):
            raise refusal
        if email.expires_at is not None and email.expires_at <= change.scheduled_at:
            raise invalid("#/scheduled_at", "must be before `expires_at` of the message")
        at = max(change.scheduled_at, now)
        if email.scheduled_at is None or not await self._reschedule(email, at):
            raise Problem(NOT_SCHEDULED)
        return respond(200, Rescheduled(id=email.email_id, scheduled_at=at))

    async def _reschedule(self, email: EmailRecord, at: datetime) -> bool:
        """Return whether the scheduler has given a mail another time.

        A mail that it does not know is asked for again, unless it has all its outcomes: the 202
        comes before the scheduler has stored the command.
        """
        if all(each.status.ended for each in email.recipients):
            return False
        question = RescheduleEmail(
            id=self.new_id(), email_id=email.email_id, client=email.client, scheduled_at=at
        )
        for wait in (0.0, *WAITS_SECONDS):
            await asyncio.sleep(wait)
            answer = await self.ask(question, SchedulingAnswered)
            if answer.result is SchedulingResult.DONE:
                return True
        return False

    async def delete(self, request: web.Request) -> web.Response:
        """Cancel a message for the recipients that it is not too late for."""
        email, _ = await self._describe(request, read_query(OwnerQuery, request.query))
        body = await self._cancel(email)
        if not body.cancelled + body.undecided:
            raise Problem(TOO_LATE)
        return respond(202, body)

    async def _cancel(self, email: EmailRecord) -> Cancelling:
        """Ask the sender to cancel a mail, unless the ledger has all its outcomes.

        The sender forgets a mail before the ledger does, and would take it for one to come. A mail
        for later is with the scheduler, on its way from there to the sender, or on its way to the
        scheduler: a scheduler that cannot cancel it now does so if it still comes.
        """
        if all(each.status.ended for each in email.recipients):
            return Cancelling.of_all(email)
        if email.scheduled_at is not None:
            ask = UnscheduleEmail(id=self.new_id(), email_id=email.email_id, client=email.client)
            if (await self.ask(ask, SchedulingAnswered)).result is SchedulingResult.DONE:
                return Cancelling.of_all(email)
        # The sender keeps a mail under the client that sent it, whoever cancels it.
        question = CancelEmail(id=self.new_id(), email_id=email.email_id, client=email.client)
        answer = await self.ask(question, EmailCancelling)
        return Cancelling.of(email, answer)

    async def _describe(
        self, request: web.Request, query: OwnerQuery
    ) -> tuple[EmailRecord, Sequence[HistoryEntry]]:
        """Return a mail of the client and its history. Raises Problem, Unavailable or NoAnswer.

        A mail that the ledger does not know is asked for again: the 202 comes before the ledger
        has read its copy of the command. An unknown id and another client's look alike.
        """
        request[SUBJECT] = request.match_info["id"]
        client = client_of(request)
        try:
            question = DescribeEmail(
                id=self.new_id(),
                email_id=request.match_info["id"],
                client=query.client if client is None else client,
            )
        except ValidationError:
            raise Problem(NO_SUCH_MESSAGE) from None  # no message has such an id
        for wait in (0.0, *WAITS_SECONDS):
            await asyncio.sleep(wait)
            answer = await self.ask(question, EmailDescribed)
            if answer.email is not None:
                return answer.email, answer.history
            if answer.clients:
                raise Problem(SHARED_ID, f"Clients: {', '.join(map(repr, answer.clients))}.")
        raise Problem(NO_SUCH_MESSAGE)


def _reply(reply: Reply | None) -> SmtpReply | None:
    return SmtpReply(**dict(reply)) if reply else None
