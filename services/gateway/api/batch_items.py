"""Pure: the messages of a batch: checked one by one, or made of one template for many recipients.

A message with mistakes becomes a Problem in its place, and does not stop the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeVar

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from services.gateway.api import body
from services.gateway.api.body import RequestBody, StrictModel
from services.gateway.api.messages import (
    HAS_CONTENT,
    BatchMessage,
    MessageId,
    MessageOptions,
    with_items,
)
from services.gateway.api.problem import (
    TEMPLATE_INVALID,
    TOO_LARGE,
    Mistake,
    Problem,
    invalid,
)
from shared.contracts import header
from shared.contracts.fields import NOT_EMPTY, Mailboxes, Text
from shared.contracts.mail import check_class
from shared.template import (
    MAX_TEMPLATE_CHARS,
    MailTemplate,
    RenderedMail,
    TemplateMistake,
    VariableMistake,
)

MAX_BATCH_SIZE = 500  # messages
MAX_SUBJECT_TEMPLATE_CHARS = 2000
MAX_BATCH_CHARS = 16 * 1024 * 1024  # of all messages that one template makes, files as base64
MAX_BATCH_STEPS = 2_000_000  # of rendering: a second at most

M = TypeVar("M", bound=StrictModel)
Item = BatchMessage | Problem  # a message of a batch, or why it is refused
_TemplateText = Annotated[Text, StringConstraints(max_length=MAX_TEMPLATE_CHARS)]


def check_items(value: object, place: str) -> Sequence[object]:
    """Return the items of a batch, unchecked, if they are 1 to 500. Raises Problem."""
    if not isinstance(value, list) or not 0 < len(value) <= MAX_BATCH_SIZE:
        raise invalid(place, f"must be a list of 1 to {MAX_BATCH_SIZE}")
    return value


def read_items(items: Sequence[object], model: type[M]) -> Sequence[M | Problem]:
    """Check each item of a batch; an item with mistakes becomes its problem."""
    return [body.checked_item(model, item) for item in items]


class NewTemplate(StrictModel):
    """The content of all messages, in the language of Jinja2 without its calls and assignments."""

    model_config = ConfigDict(json_schema_extra={**HAS_CONTENT})

    subject: Annotated[Text, StringConstraints(max_length=MAX_SUBJECT_TEMPLATE_CHARS)]
    text: _TemplateText | None = Field(
        None, repr=False, description="At least one of text and html"
    )
    html: _TemplateText | None = Field(None, repr=False, description="Variables are escaped")

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.text is None and self.html is None:
            raise ValueError("must have `text` or `html`")
        return self


class BatchRecipient(StrictModel):
    """One recipient, or several that see each other, and what the template says to them."""

    to: Annotated[Mailboxes, NOT_EMPTY] = Field(
        description="One mailbox or several", json_schema_extra=with_items
    )
    variables: Mapping[str, Any] = Field(
        default_factory=dict, repr=False, description="Texts, numbers, booleans, lists and objects"
    )
    headers: header.Headers = Field(
        default_factory=dict, description="Beside those of all messages, such as List-Unsubscribe"
    )
    id: MessageId | None = Field(
        None, description="The same id again is the same message; the gateway's own if absent"
    )


class BatchContent(MessageOptions):
    """The content and the options of all messages of a batch."""

    template: NewTemplate


class NewTemplatedBatch(BatchContent, RequestBody):
    """Asks for one content to be sent to up to 500 recipients, to each with its own variables."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "template": {"subject": "For {{ name }}", "text": "Hello {{ name }}!"},
                    "recipients": [{"to": "ada@mail.example", "variables": {"name": "Ada"}}],
                    "category": "bulk",
                }
            ]
        }
    )
    max_bytes = None

    recipients: list[BatchRecipient] = Field(min_length=1, max_length=MAX_BATCH_SIZE)


@dataclass(frozen=True, slots=True)
class TemplatedBatch:
    """A content that was checked, and its recipients."""

    content: BatchContent
    template: MailTemplate
    recipients: Sequence[BatchRecipient | Problem]

    def messages(self) -> Iterator[Item]:
        """Yield the message of each recipient; one beyond the limits of the batch is refused."""
        chars, steps = MAX_BATCH_CHARS, MAX_BATCH_STEPS
        for recipient in self.recipients:
            if isinstance(recipient, Problem):
                yield recipient
            elif steps <= 0 or chars <= 0:
                yield Problem(TOO_LARGE, "The messages before it have the size of a batch.")
            else:
                item, taken = self._made(recipient)
                chars, steps = chars - size_of(item), steps - taken
                yield item

    def _made(self, recipient: BatchRecipient) -> tuple[Item, int]:
        """Return the message of a recipient, or its problem, and the steps that it took at most.

        A message that is refused while or after it is rendered has taken its steps all the same.
        """
        taken = 0
        try:
            taken = self.template.steps(recipient.variables)
            return self._message(recipient, self.template.render(recipient.variables)), taken
        except VariableMistake as error:
            return invalid("#/variables", str(error)), taken
        except ValueError as error:
            return invalid("#/headers", str(error)), taken

    def _message(self, recipient: BatchRecipient, mail: RenderedMail) -> BatchMessage:
        """Return a message whose parts were checked. Raises ValueError for its headers together."""
        content, headers = self.content, self.content.headers
        if recipient.headers:
            headers = header.check_headers({**headers, **recipient.headers})
            check_class(content.category, headers, content.list_id)
        own = {"to": recipient.to, "id": recipient.id, "headers": headers}
        texts = {"subject": mail.subject, "text": mail.text, "html": mail.html}
        return BatchMessage.model_construct(**{**content.__dict__, **own, **texts})


def read_templated(value: Mapping[str, Any]) -> TemplatedBatch:
    """Return the checked batch of a body. Raises Problem for what all recipients share."""
    given = {name: each for name, each in value.items() if name != "recipients"}
    content = body.checked(BatchContent, given)
    template = content.template
    try:
        compiled = MailTemplate(template.subject, template.text, template.html)
    except TemplateMistake as error:
        errors = [Mistake(f"#/template/{error.part}", str(error))]
        raise Problem(TEMPLATE_INVALID, errors=errors) from None
    recipients = check_items(value.get("recipients"), "#/recipients")
    return TemplatedBatch(content, compiled, read_items(recipients, BatchRecipient))


def size_of(item: Item) -> int:
    """Return the characters of a rendered message, with those of its files."""
    if isinstance(item, Problem):
        return 0
    files = sum(len(each.content) for each in item.attachments)
    return len(item.subject) + len(item.text or "") + len(item.html or "") + files
