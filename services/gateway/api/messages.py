"""Messages: sent with POST, and their outcomes when the client waits."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from aiohttp import web
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from services.gateway.api import body
from services.gateway.api.body import INTEGER, RFC3339_TIME, RequestBody, StrictModel
from services.gateway.api.content_types import ContentTypeViews
from services.gateway.api.openapi import Operation, Success
from services.gateway.api.outcomes import RecipientOutcome, wait_for_outcomes
from services.gateway.api.problem import (
    EXPIRED,
    FOREIGN_SENDER,
    IN_PROGRESS,
    KEY_REUSED,
    NO_SUCH_CONTENT_TYPE,
    Mistake,
    Problem,
)
from services.gateway.api.request import CLIENT, REPLAYED
from services.gateway.api.response import Accepted, AskingViews, ResponseBody, accepted, respond
from services.gateway.api.schedule import SCHEDULED_AT, ScheduledAt, schedule_refusal
from services.gateway.clients.idempotency import RequestStamp
from shared.contracts import (
    Category,
    ContentRendered,
    DescribeEmail,
    EmailDescribed,
    SendEmail,
    header,
)
from shared.contracts.attachment import (
    MAX_ATTACHMENTS,
    Attachment,
    CalendarObject,
    check_attachments,
)
from shared.contracts.clients import Scope
from shared.contracts.fields import (
    MAX_RECIPIENTS,
    MAX_RETRIES,
    MAX_TAGS,
    NOT_EMPTY,
    Id,
    Mailbox,
    Mailboxes,
    Metadata,
    Moment,
    ReplyTo,
    Subject,
    Tag,
    Text,
    check_tags,
)
from shared.contracts.mail import check_class

MAX_WAIT_DIGITS = 9  # more would mean no more than these, and cost time to read
TAKEN_IDS = ("batch",)  # paths below /v1/messages, where GET and DELETE find no message


# At least one of text and html, as JSON Schema.
HAS_CONTENT: Mapping[str, Any] = {
    "anyOf": [
        {"required": [name], "properties": {name: {"type": "string"}}} for name in ("text", "html")
    ]
}


def with_items(schema: dict[str, Any]) -> None:
    """Add the lower limit of a list, which `min_length` would check after a wrong item."""
    schema["anyOf"][1]["minItems"] = 1


class NewAttachment(Attachment, StrictModel):
    """A file that goes with a message; with a `content_id` the HTML shows it by `cid:`."""


class NewTag(Tag, StrictModel):
    """A label of a message, by which its outcomes are found and counted; not in the mail."""


class NewCalendar(CalendarObject, StrictModel):
    """An iCalendar object, which a mail program shows as an invitation with its buttons."""


def _check_id(identifier: str) -> str:
    if identifier in TAKEN_IDS:
        raise ValueError(f"must not be {' or '.join(TAKEN_IDS)}, which has a path of its own")
    return identifier


def _as(contract: type[BaseModel]) -> AfterValidator:
    """Return the conversion to the part of a command, which was checked by the same rules."""
    return AfterValidator(lambda new: contract.model_construct(**new.__dict__))


NewAttachments = Annotated[
    tuple[Annotated[NewAttachment, _as(Attachment)], ...],
    Field(max_length=MAX_ATTACHMENTS, fail_fast=True),
    AfterValidator(check_attachments),
]
NewTags = Annotated[
    tuple[Annotated[NewTag, _as(Tag)], ...],
    Field(max_length=MAX_TAGS, fail_fast=True),
    AfterValidator(check_tags),
]
MessageId = Annotated[
    Id, AfterValidator(_check_id), Field(json_schema_extra={"not": {"enum": [*TAKEN_IDS]}})
]
OneCalendar = Annotated[NewCalendar, _as(CalendarObject)]
StrictRetries = Annotated[int, Field(strict=True, ge=0, le=MAX_RETRIES), INTEGER]


class MessageOptions(StrictModel):
    """The options of one message, or of all messages of a batch."""

    from_: Mailbox | None = Field(None, alias="from", description="The sender's default if absent")
    reply_to: ReplyTo = Field(None, description="One mailbox, or up to ten")
    attachments: NewAttachments = Field((), repr=False, description="At most 7 MiB together")
    calendar: OneCalendar | None = Field(None, repr=False, description="One more form of the text")
    headers: header.Headers = Field(
        default_factory=dict, description=f"Among {', '.join(header.KNOWN)} and X-*"
    )
    tags: NewTags = ()
    metadata: Metadata = Field(
        default_factory=dict, description="Returned with each outcome; not in the mail"
    )
    category: Category = Category.TRANSACTIONAL
    list_id: Id | None = Field(
        None, description="Of bulk mail: the list that it belongs to, by which an opt-out stops it"
    )
    retries: StrictRetries | None = Field(
        None, description="Further attempts at most; the category's schedule alone if absent"
    )
    expires_at: Annotated[Moment | None, RFC3339_TIME] = Field(
        None, description="The message is not sent from then on"
    )
    scheduled_at: ScheduledAt = Field(None, description=SCHEDULED_AT)

    @field_validator("scheduled_at")
    @classmethod
    def _can_wait(cls, at: datetime | None, info: ValidationInfo) -> datetime | None:
        expires_at = info.data.get("expires_at")
        if at is not None and info.data.get("category") is Category.OTP:
            raise ValueError("must be absent from a message of the category otp")
        if at is not None and expires_at is not None and expires_at <= at:
            raise ValueError("must be before `expires_at`")
        return at

    @model_validator(mode="after")
    def _fits_its_class(self) -> Self:
        check_class(self.category, self.headers, self.list_id)
        return self

    def refusal(self, at: datetime) -> Problem | None:
        """Return the problem of its times at the time of its request, None without one."""
        if self.expires_at is not None and self.expires_at <= at:
            return Problem(EXPIRED, errors=[Mistake("#/expires_at", "must be in the future")])
        return schedule_refusal(self.scheduled_at, at)


class AddressedMessage(MessageOptions, RequestBody):
    """The recipients and the options of one message."""

    max_bytes = None

    to: Annotated[Mailboxes, NOT_EMPTY] = Field(
        description="One mailbox or several: `a@b.example`, `Ann <a@b.example>`",
        json_schema_extra=with_items,
    )
    cc: Mailboxes = ()
    bcc: Mailboxes = Field((), description="These appear in no header")

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if len(self.to) + len(self.cc) + len(self.bcc) > MAX_RECIPIENTS:
            raise ValueError(f"must have at most {MAX_RECIPIENTS} recipients")
        return self


class NewMessage(AddressedMessage):
    """Asks for one message to be sent to each of its recipients."""

    model_config = ConfigDict(
        json_schema_extra={
            **HAS_CONTENT,
            "examples": [
                {
                    "to": ["Ada <ada@mail.example>"],
                    "subject": "Your bill",
                    "text": "See the file.",
                    "attachments": [{"filename": "bill.txt", "content": "NDIgRXVybw=="}],
                    "headers": {"X-Shop": "7"},
                }
            ],
        }
    )

    subject: Subject
    text: Text | None = Field(None, repr=False, description="At least one of text and html")
    html: Text | None = Field(None, repr=False)

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.text is None and self.html is None:
            raise ValueError("must have `text` or `html`")
        return self

    def command(self, stamp: RequestStamp, client: str) -> SendEmail:
        """Return the command, unchecked: its fields were checked by the same rules."""
        own = {"id": stamp.id, "client": client, "created_at": stamp.at}
        return _EMPTY.model_copy(update=self.__dict__ | own)


# Its copy with other fields takes a quarter of the time of `model_construct`, 2 µs.
_EMPTY = SendEmail.model_construct(id="", to=(), subject="")


class StoredTemplate(StrictModel):
    """A content type of the client, and what its templates show."""

    id: Id = Field(description="The name of the content type")
    variables: Mapping[str, Any] = Field(
        default_factory=dict, repr=False, description="Texts, numbers, booleans, lists and objects"
    )


class NewTemplatedMessage(AddressedMessage):
    """Asks for one message to be made of a content type and sent to each of its recipients."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "to": ["ada@mail.example"],
                    "template": {"id": "welcome", "variables": {"name": "Ada"}},
                }
            ]
        }
    )

    template: StoredTemplate

    def made(self, mail: ContentRendered) -> NewMessage:
        """Return the message with a content, which was checked when it was made."""
        fields = {"subject": mail.subject, "text": mail.text, "html": mail.html} | self.__dict__
        return NewMessage.model_construct(
            **{name: fields[name] for name in NewMessage.model_fields}
        )


class BatchMessage(NewMessage):
    """One message of a batch."""

    id: MessageId | None = Field(
        None, description="The same id again is the same message; the gateway's own if absent"
    )


class Finished(ResponseBody):
    """The message has a final outcome for every recipient."""

    id: str
    status: Literal["final"] = "final"
    recipients: list[RecipientOutcome]


def read_message(content: bytes) -> NewMessage | NewTemplatedMessage:
    """Return the checked message of a body. Raises Problem."""
    value = body.parse_object(content)
    if "template" in value:
        return body.checked(NewTemplatedMessage, value)
    return body.checked(NewMessage, value)


POST_MESSAGE = Operation(
    "postMessage",
    "POST /v1/messages",
    "Send a message",
    (
        Success(202, "The broker has stored it", Accepted, headers=("Location",)),
        Success(200, "With `Prefer: wait`: every recipient has its outcome", Finished),
    ),
    scope=Scope.SEND,
    body=NewMessage,
    other_bodies=(NewTemplatedMessage,),
    problems=(FOREIGN_SENDER, NO_SUCH_CONTENT_TYPE, EXPIRED, KEY_REUSED, IN_PROGRESS),
    description="The 202 comes after the broker has confirmed that it has stored the message. "
    "After a 503 the message may be stored nevertheless: sent again with the same "
    "`Idempotency-Key` it is one mail, without one it may be two. `Prefer: wait` does not wait for "
    "the time of a message with `scheduled_at`.",
    waits=True,
    repeatable=True,
)


@dataclass(frozen=True, slots=True)
class MessageViews(AskingViews):
    """Sends messages.

    A client waits at most `max_wait_seconds`, not beyond `stop`, and not at all without room.
    """

    contents: ContentTypeViews
    stop: asyncio.Event
    max_wait_seconds: int
    has_room: Callable[[], bool]

    async def post(self, request: web.Request) -> web.Response:
        """Publish a message; return its outcomes when the client waits for them."""
        client = request[CLIENT]
        content = await self.reader.read_bytes(request)
        new = await self.reader.check(content, lambda: read_message(content))
        if not client.allowed_senders.allow(new.from_):
            raise Problem(FOREIGN_SENDER)
        stamp = await self.reader.stamp(request, content)
        if refusal := new.refusal(stamp.at):
            await self.reader.forget_key(request, stamp)
            raise refusal
        if isinstance(new, NewTemplatedMessage):
            made = await self._made(request, new, stamp)
            if made is None:
                return accepted(stamp.id, {"Location": f"/v1/messages/{stamp.id}"})
            new = made
        command = new.command(stamp, client.id)
        seconds = preferred_wait(request.headers.getall("Prefer", ()), self.max_wait_seconds)
        # A preference may be left unmet (RFC 7240 2): else waits would keep all other requests out.
        if seconds and command.scheduled_at is None and self.has_room():
            async with self.reader.alone(request, seconds):
                return await self._post_and_wait(command, seconds)
        await self.broker.publish(command)
        return accepted(command.id, {"Location": f"/v1/messages/{command.id}"})

    async def _made(
        self, request: web.Request, new: NewTemplatedMessage, stamp: RequestStamp
    ) -> NewMessage | None:
        """Return the message of a template. Raises Problem.

        A repeat whose content type is another by now may have no message: None if the first request
        was accepted.
        """
        template = new.template
        try:
            mail = await self.contents.render(
                request, template.id, template.variables, "#/template/variables"
            )
        except Problem:
            if not request.get(REPLAYED):
                await self.reader.forget_key(request, stamp)
                raise
            question = DescribeEmail(id=self.new_id(), email_id=stamp.id, client=request[CLIENT].id)
            if (await self.ask(question, EmailDescribed)).email is None:
                raise
            return None
        self.reader.hold(request, len(mail.html or "") + len(mail.text or ""))
        return new.made(mail)

    async def _post_and_wait(self, command: SendEmail, seconds: int) -> web.Response:
        outcomes = await wait_for_outcomes(self.broker, command, seconds, self.stop)
        applied = {"Preference-Applied": f"wait={seconds}"}
        if outcomes.complete:
            return respond(200, Finished(id=command.id, recipients=outcomes.known), applied)
        return accepted(command.id, applied | {"Location": f"/v1/messages/{command.id}"})


def preferred_wait(headers: Sequence[str], max_seconds: int) -> int:
    """Return the seconds of `Prefer: wait=10` (RFC 7240), 0 without such a preference.

    The first `wait` counts (RFC 7240 2); a value that is no number is no preference.
    """
    for preference in ",".join(headers).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            digits = value.strip().strip('"')
            readable = digits.isascii() and digits.isdigit()
            return min(int(digits[:MAX_WAIT_DIGITS]), max_seconds) if readable else 0
    return 0
