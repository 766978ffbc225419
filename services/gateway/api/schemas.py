"""Pure: request bodies, checked once and made into contracts."""

from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from services.gateway import client_address
from services.gateway.api.body import RequestBody, RequestStamp, StrictModel
from services.gateway.api.wording import CLIENT_ID
from services.gateway.clients.clients import Client
from services.gateway.clients.senders import MAX_SENDERS, AllowedSenders, Sender
from shared.contracts import Category, IssueCode, SendEmail, VerifyCode, header
from shared.contracts.attachment import MAX_ATTACHMENTS, Attachment, check_attachments
from shared.contracts.codes import CONFIRM_ADDRESS, MAX_DIGITS, MAX_TYPED_CHARS, MIN_DIGITS
from shared.contracts.fields import (
    MAX_RECIPIENTS,
    MAX_RETRIES,
    NOT_EMPTY,
    Address,
    Locale,
    Mailbox,
    Mailboxes,
    Purpose,
    Subject,
    Text,
)

MAX_CLIENT_ID_CHARS = 64


def _ip(value: object) -> client_address.Address:
    """Read an address; a number is none, nor is one with a zone, which only its host can read."""
    found = client_address.parse(value) if isinstance(value, str) and "%" not in value else None
    if found is None:
        raise ValueError("must be an IPv4 or IPv6 address")
    return found


_Retries = Annotated[int, Field(strict=True, ge=0, le=MAX_RETRIES)]
_Length = Annotated[int, Field(strict=True, ge=MIN_DIGITS, le=MAX_DIGITS)]
_Ip = Annotated[client_address.Address, BeforeValidator(_ip)]


def _with_items(schema: dict[str, Any]) -> None:
    """Add the lower limit of a list, which `min_length` would check after a wrong item."""
    schema["anyOf"][1]["minItems"] = 1


class NewAttachment(Attachment, StrictModel):
    """A file that goes with a message; with a `content_id` the HTML shows it by `cid:`."""

    def kept(self) -> Attachment:
        """Give it as a command carries it; it was checked by the same rules."""
        return Attachment.model_construct(**self.__dict__)


_Attachments = Annotated[
    tuple[Annotated[NewAttachment, AfterValidator(NewAttachment.kept)], ...],
    Field(max_length=MAX_ATTACHMENTS, fail_fast=True),
    AfterValidator(check_attachments),
]


class NewMessage(RequestBody):
    """Asks for one message to be sent to each of its recipients."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"type": "string"}}}
                for name in ("text", "html")
            ],
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
    most = None

    to: Annotated[Mailboxes, NOT_EMPTY] = Field(
        description="One mailbox or several: `a@b.example`, `Ann <a@b.example>`",
        json_schema_extra=_with_items,
    )
    cc: Mailboxes = ()
    bcc: Mailboxes = Field((), description="These appear in no header")
    from_: Mailbox | None = Field(None, alias="from", description="The sender's default if absent")
    reply_to: Mailbox | None = None
    subject: Subject
    text: Text | None = Field(None, repr=False, description="At least one of text and html")
    html: Text | None = Field(None, repr=False)
    attachments: _Attachments = Field((), repr=False, description="At most 7 MiB together")
    headers: header.Headers = Field(
        default_factory=dict, description=f"Among {', '.join(header.KNOWN)} and X-*"
    )
    category: Category = Category.TRANSACTIONAL
    retries: _Retries | None = Field(
        None, description="Further attempts at most; the category's schedule alone if absent"
    )

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        if len(self.to) + len(self.cc) + len(self.bcc) > MAX_RECIPIENTS:
            raise ValueError(f"must have at most {MAX_RECIPIENTS} recipients")
        if self.text is None and self.html is None:
            raise ValueError("must have `text` or `html`")
        if self.category is Category.OTP and header.UNSUBSCRIBE in self.headers:
            raise ValueError("must not offer to unsubscribe from a code")
        return self

    def command(self, stamp: RequestStamp, client: str) -> SendEmail:
        """Give the command; its fields were checked by the same rules and are not checked again."""
        return SendEmail.model_construct(
            id=stamp.id, client=client, created_at=stamp.at, **self.__dict__
        )


class NewCode(RequestBody):
    """Asks for a one-time code to be mailed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"email": "ada@mail.example", "purpose": "sign-in", "locale": "de-AT"}]
        }
    )

    email: Address
    purpose: Purpose = Field(CONFIRM_ADDRESS, description="The code is right for nothing else")
    length: _Length | None = Field(None, description="Digits; the deployment's default if absent")
    locale: Locale | None = Field(None, description="Of the mail: a language tag such as `de-AT`")
    ip: _Ip | None = Field(
        None, description="Of the user who wants the code; the caller's own if absent"
    )

    def command(
        self, stamp: RequestStamp, client: str, caller: client_address.Address | None
    ) -> IssueCode:
        """Give the command; its fields were checked by the same rules and are not checked again."""
        return IssueCode.model_construct(
            id=stamp.id, client=client, **(self.__dict__ | {"ip": self.ip or caller})
        )


class CodeGuess(RequestBody):
    """Asks whether a code is right; a right one is used up by it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"email": "ada@mail.example", "code": "123 456"}]}
    )

    email: Address
    code: str = Field(
        min_length=1,
        max_length=MAX_TYPED_CHARS,
        repr=False,
        description="Spaces and dashes are dropped",
    )
    purpose: Purpose = CONFIRM_ADDRESS
    # Not the caller's by default: that is a client's own server, one for all its users.
    ip: _Ip | None = Field(
        None, description="Of the user who typed the code; wrong ones are limited by it"
    )

    def question(self, stamp: RequestStamp, client: str) -> VerifyCode:
        """Give the question; its fields were checked by the same rules."""
        return VerifyCode.model_construct(id=stamp.id, client=client, **self.__dict__)


_Senders = Annotated[list[Sender], Field(max_length=MAX_SENDERS, fail_fast=True)]


class NewClient(RequestBody):
    """Asks for a client to be registered."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "shop", "senders": ["@shop.example"]}]}
    )
    most = 128 * 1024  # bytes: MAX_SENDERS of the longest, each character as an escape of JSON

    id: str = Field(
        max_length=MAX_CLIENT_ID_CHARS,
        pattern=CLIENT_ID,
        description="Up to 64 lower-case letters, digits, dots, underscores and hyphens",
    )
    senders: _Senders | None = Field(
        None,
        description="What may stand in `from`: addresses, and domains such as `@shop.example`; "
        "any address if absent",
    )

    def client(self) -> Client:
        """Give the client."""
        return Client(self.id, AllowedSenders(self.senders))
