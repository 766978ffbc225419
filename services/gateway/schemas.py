"""Pure: request bodies, checked once and made into contracts. Unknown fields are refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Self, TypeVar
from urllib.parse import quote

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from services.gateway.problem import INVALID, MALFORMED, Mistake, Problem
from shared import address, header
from shared.attachment import MAX_ATTACHMENTS, Attachment, check_attachments
from shared.contracts import (
    Category,
    FeedbackBounced,
    FeedbackDelivered,
    IssueCode,
    SendEmail,
    VerifyCode,
)
from shared.fields import MAX_RECIPIENTS, Subject, Text

MAX_MAILBOX_CHARS = 600  # a display name and the 254 of an address (RFC 5321 4.5.3.1, errata 1690)
MAX_CODE_CHARS = 64
MAX_MISTAKES = 20  # told in one answer
MAX_KEY_CHARS = 100  # of an unknown field's name, which is the client's text

# In place of pydantic's words, where those would puzzle a caller of an HTTP API.
_DETAILS = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this request",
    "tuple_type": "must be a string or a list of strings",
    "model_type": "must be a JSON object",
}


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


_Short = Annotated[str, StringConstraints(max_length=MAX_MAILBOX_CHARS)]
_Mailbox = Annotated[_Short, AfterValidator(address.check_mailbox)]
_Address = Annotated[_Short, AfterValidator(address.check_address)]
# The length is checked before the items are: a hundred thousand of them would take seconds.
_Mailboxes = Annotated[
    tuple[_Mailbox, ...],
    Field(max_length=MAX_RECIPIENTS),
    BeforeValidator(
        _as_list,
        json_schema_input_type=_Short | Annotated[list[_Short], Field(max_length=MAX_RECIPIENTS)],
    ),
]


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the gateway gives everything it accepts: an id and the time."""

    id: str
    at: datetime


class Body(BaseModel):
    """A request body: what is not a field of it is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class NewAttachment(Attachment):
    """A file that goes with a message; with a `content_id` the HTML shows it by `cid:`."""

    model_config = ConfigDict(extra="forbid")

    def kept(self) -> Attachment:
        """Give it as a command carries it; it was checked by the same rules."""
        return Attachment.model_construct(**self.__dict__)


_Attachments = Annotated[
    tuple[Annotated[NewAttachment, AfterValidator(NewAttachment.kept)], ...],
    Field(max_length=MAX_ATTACHMENTS),
    AfterValidator(check_attachments),
]


class NewMessage(Body):
    """Asks for one message to be sent to each of its recipients."""

    to: _Mailboxes = Field(description="One mailbox or several: `a@b.example`, `Ann <a@b.example>`")
    cc: _Mailboxes = ()
    bcc: _Mailboxes = Field((), description="These appear in no header")
    from_: _Mailbox | None = Field(None, alias="from", description="The sender's default if absent")
    reply_to: _Mailbox | None = None
    subject: Subject
    text: Text | None = Field(None, repr=False, description="At least one of text and html")
    html: Text | None = Field(None, repr=False)
    attachments: _Attachments = Field((), repr=False, description="At most 7 MiB together")
    headers: header.Headers = Field(
        default_factory=dict, description=f"Among {', '.join(header.KNOWN)} and X-*"
    )
    category: Category = Category.TRANSACTIONAL

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        if not self.to:
            raise ValueError("must have at least one recipient in `to`")
        if len(self.to) + len(self.cc) + len(self.bcc) > MAX_RECIPIENTS:
            raise ValueError(f"must have at most {MAX_RECIPIENTS} recipients")
        if self.text is None and self.html is None:
            raise ValueError("must have a text or an html part")
        if self.category is Category.OTP and header.UNSUBSCRIBE in self.headers:
            raise ValueError("must not offer to unsubscribe from a code")
        return self

    def command(self, stamp: Stamp, client: str) -> SendEmail:
        """Give the command; its fields were checked by the same rules and are not checked again."""
        return SendEmail.model_construct(
            id=stamp.id, client=client, created_at=stamp.at, **self.__dict__
        )


class NewCode(Body):
    """Asks for a one-time code to be mailed."""

    email: _Address

    def command(self, stamp: Stamp, client: str) -> IssueCode:
        """Give the command."""
        return IssueCode(id=stamp.id, email=self.email, client=client)


class CodeGuess(Body):
    """Asks whether a code is right; a right one is used up by it."""

    email: _Address
    code: str = Field(min_length=1, max_length=MAX_CODE_CHARS, repr=False)

    def question(self, stamp: Stamp, client: str) -> VerifyCode:
        """Give the question."""
        return VerifyCode(id=stamp.id, email=self.email, code=self.code, client=client)


class NewClient(Body):
    """Asks for a client to be registered."""

    id: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
        description="Up to 64 lower-case letters, digits, dots, underscores and hyphens",
    )


B = TypeVar("B", bound=Body)
Feedback = FeedbackDelivered | FeedbackBounced  # an event that a client tells us


def read(model: type[B], body: bytes) -> B:
    """Read a body. Raises Problem, whose text never repeats a value."""
    try:
        return model.model_validate(_parse(body))
    except ValidationError as error:
        raise Problem(INVALID, errors=mistakes(error)) from None


def read_domain(text: str) -> str:
    """Give a domain of a path in its canonical form. Raises Problem."""
    try:
        return address.check_domain(text)
    except ValueError as error:
        raise Problem(INVALID, f"The domain {error}.") from None


def mistakes(error: ValidationError) -> Sequence[Mistake]:
    """Tell what is wrong, field by field, without the values."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return [Mistake(_pointer(each["loc"]), _detail(each)) for each in found[:MAX_MISTAKES]]


def _parse(body: bytes) -> dict[str, Any]:
    """Read a JSON object: strict UTF-8, no NaN, no lone surrogate, at most some 1000 deep."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Problem(MALFORMED, "The body is not JSON in UTF-8.") from None
    if not isinstance(value, dict):
        raise Problem(MALFORMED, "The body is not a JSON object.")
    return value


def _pointer(place: Sequence[str | int]) -> str:
    """Give a JSON Pointer in its form as a URI fragment (RFC 6901 3 and 6)."""
    parts = (str(part)[:MAX_KEY_CHARS].replace("~", "~0").replace("/", "~1") for part in place)
    return "#" + "".join(f"/{quote(part, safe='~')}" for part in parts)


def _detail(mistake: ErrorDetails) -> str:
    return _DETAILS.get(mistake["type"]) or mistake["msg"].removeprefix("Value error, ")
