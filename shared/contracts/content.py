"""Content types and their runs: questions to the scheduler, and its answers."""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.contracts.fields import (
    END_OF_TIME,
    EPOCH,
    NOT_EMPTY,
    Count,
    Id,
    LineText,
    Moment,
    Subject,
    Text,
)
from shared.contracts.message import Answer, Event, Question

MAX_CONTENT_BYTES = 4 * 1024 * 1024  # of a template, or of a mail made of it, in JSON
MAX_VARIABLES_BYTES = 512 * 1024  # of a mail's variables and what goes with them, in JSON
MAX_LISTED_CONTENT_TYPES = 100  # of a page, without their templates
MAX_LISTED_RUNS = 100  # of a page
MAX_REPEATED = 1000  # mails of one question

_PERIOD_FORM = "%Y%m%dT%H%M%SZ"
_SECOND = timedelta(seconds=1)
_PERIOD_CHARS = len("20261101T083000Z")
_NEWSLETTER_ID = re.compile(r"([0-9a-f]{32})\.([0-9]{8}T[0-9]{6}Z)(?:\.([1-9][0-9]{0,3}))?")

CONTENT_CURSOR = r"^[A-Za-z0-9._-]{0,100}/[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"  # client and name
NOT_BLANK = r"\S"
HtmlTemplate = Annotated[Text, StringConstraints(pattern=NOT_BLANK)]
ContentCursor = Annotated[str, StringConstraints(pattern=CONTENT_CURSOR, max_length=201)]
# The list's name as its readers see it.
Title = Annotated[LineText, StringConstraints(min_length=1, max_length=100)]
Variables = Annotated[dict[str, Any], Field(repr=False)]  # see shared.template for their limits


def run_id(content_type: str, period_at: datetime) -> str:
    """Return the id of a run, which is the value of the tag `run` of its mails.

    It has the name as a hash, since a name may have a dot, and a tag not.
    """
    return f"{period_at.astimezone(UTC):{_PERIOD_FORM}}-{name_hash(content_type)}"


def name_hash(content_type: str) -> str:
    """Return a short text for the name of a content type in an id, which has less room."""
    return sha256(content_type.encode()).hexdigest()[:12]


def run_period(content_type: str, run: str) -> datetime | None:
    """Return the period of a run in UTC, None for an id that no run of the content type has."""
    period = _read_period(run[:_PERIOD_CHARS])
    return period if period is not None and run_id(content_type, period) == run else None


def _read_period(text: str) -> datetime | None:
    try:
        period = datetime.strptime(text, _PERIOD_FORM).replace(tzinfo=UTC)
    except ValueError:
        return None
    return period if EPOCH <= period < END_OF_TIME - _SECOND else None


class NewsletterId(NamedTuple):
    """The id of a newsletter: its subscription, its period in UTC, and how often it was repeated.

    A mail that did not arrive is repeated under an id that follows from its own.
    """

    subscription: str
    period: datetime
    repetition: int = 0

    def __str__(self) -> str:
        """Return the id as mails have it."""
        suffix = f".{self.repetition}" if self.repetition else ""
        return f"{self.subscription}.{self.period:{_PERIOD_FORM}}{suffix}"

    @classmethod
    def read(cls, email_id: str) -> "NewsletterId | None":
        """Return the id of a mail, None if it is no newsletter's."""
        match = _NEWSLETTER_ID.fullmatch(email_id)
        period = _read_period(match[2]) if match else None
        return cls(match[1], period, int(match[3] or 0)) if match and period else None

    def again(self) -> "NewsletterId":
        """Return the id of the mail that repeats this one."""
        return self._replace(repetition=self.repetition + 1)


class ContentSummary(BaseModel):
    """A content type without its templates."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Id
    client: Id | None = None
    version: Count = Field(description="One more with each change")
    subject: Text
    title: Title | None = Field(None, description="The list's name as its readers see it")
    created_at: Moment
    changed_at: Moment
    paused_at: Moment | None = Field(None, description="No mail goes out from then on")
    paused_for: LineText | None = Field(None, description="In words")


class ContentType(ContentSummary):
    """The templates of a mail's subject, HTML and text, of one client."""

    html: Text = Field(repr=False)
    text: Text | None = Field(None, repr=False, description="Derived from the HTML if absent")


class ContentResult(StrEnum):
    """The result of a question about a content type."""

    FOUND = "found"
    CREATED = "created"
    CHANGED = "changed"
    DELETED = "deleted"
    EXISTS = "exists"  # already, so that nothing was created
    UNKNOWN = "unknown"  # nothing was changed
    IN_USE = "in_use"  # by subscriptions, so that it was not deleted


class SaveContentType(Question):
    """Asks for a content type to be created, or replaced by a new version.

    The scheduler answers after the commit. It refuses templates that it cannot read.
    """

    keys = ("content.save",)
    max_bytes = MAX_CONTENT_BYTES

    client: Id | None = None
    name: Id
    replaces: bool = Field(description="Replace one that exists, instead of creating one")
    subject: Text
    title: Title | None = None
    html: HtmlTemplate = Field(repr=False)
    text: Text | None = Field(None, repr=False)


class DescribeContentType(Question):
    """Asks for a content type."""

    keys = ("content.describe",)

    client: Id | None = None
    name: Id


class DeleteContentType(Question):
    """Asks for a content type to be deleted, which no subscription may have."""

    keys = ("content.delete",)

    client: Id | None = None
    name: Id


class ResumeContentType(Question):
    """Asks for the runs of a paused content type to go on; harmless if they do."""

    keys = ("content.resume",)

    client: Id | None = None
    name: Id


class ContentTypeAnswered(Answer):
    """Answers with the result, and with the content type unless it is unknown or deleted."""

    keys = ("content.answered",)
    max_bytes = MAX_CONTENT_BYTES

    result: ContentResult
    content_type: ContentType | None = None


class ListContentTypes(Question):
    """Asks for a page of content types, by name."""

    keys = ("content.list",)

    client: Id | None = Field(None, description="Of every client if absent")
    paused: bool = Field(default=False, description="Only those that are paused")
    after: ContentCursor | None = Field(None, description="`next` of the page before")
    limit: int = Field(MAX_LISTED_CONTENT_TYPES, ge=1, le=MAX_LISTED_CONTENT_TYPES)


class ContentTypesListed(Answer):
    """Answers with a page of content types."""

    keys = ("content.listed",)
    max_bytes = MAX_CONTENT_BYTES

    content_types: tuple[ContentSummary, ...] = Field(max_length=MAX_LISTED_CONTENT_TYPES)
    next: ContentCursor | None = Field(
        None, description="`after` of the next page; absent at the last"
    )


class RenderContent(Question):
    """Asks for a mail made of a content type, as a preview or to be sent."""

    keys = ("content.render",)
    max_bytes = MAX_VARIABLES_BYTES

    client: Id | None = None
    name: Id
    variables: Variables = Field(default_factory=dict)


class ContentRendered(Answer):
    """Answers with a mail, with a mistake in its variables, or with neither if unknown."""

    keys = ("content.rendered",)
    max_bytes = MAX_CONTENT_BYTES

    version: Count | None = Field(None, description="Of the content type; absent if it is unknown")
    subject: Subject | None = None
    html: Text | None = Field(None, repr=False)
    text: Text | None = Field(None, repr=False)
    mistake: Text | None = Field(None, description="In words, without a value of a variable")
    busy: bool = Field(default=False, description="No mail is made: too many are being made")


class ContentRun(BaseModel):
    """The mails of a content type for one period; the ledger knows what became of each."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: Id = Field(description="The value of the tag `run` of its mails")
    content_type: Id
    client: Id | None = None
    period_at: Moment = Field(description="When it was due")
    published: Count = Field(description="Mails that the broker has stored")
    unknown_mailboxes: Count = Field(description="Mails refused as `mailbox_unknown`")
    complaints: Count
    unfit: Count = Field(
        0, description="Mails that were not made, since the variables do not fit the templates"
    )


class ListRuns(Question):
    """Asks for a page of the runs of a content type, the latest first."""

    keys = ("run.list",)

    client: Id | None = None
    name: Id
    after: Moment | None = Field(None, description="`period_at` of the last of the page before")
    limit: int = Field(MAX_LISTED_RUNS, ge=1, le=MAX_LISTED_RUNS)


class RunsListed(Answer):
    """Answers with a page of runs; with none for a content type that is unknown."""

    keys = ("run.listed",)

    runs: tuple[ContentRun, ...] = Field(max_length=MAX_LISTED_RUNS)
    next: Moment | None = Field(None, description="`after` of the next page; absent at the last")


class RepeatEmails(Question):
    """Asks for mails of a run to be made and sent once more, to subscriptions that still exist.

    Asked again, it is the same mail: its id follows from that of the mail that did not arrive.
    """

    keys = ("run.repeat",)
    max_bytes = MAX_VARIABLES_BYTES

    client: Id | None = None
    name: Id
    run_id: Id
    email_ids: Annotated[tuple[Id, ...], NOT_EMPTY] = Field(max_length=MAX_REPEATED)


class EmailsRepeated(Answer):
    """Answers with the mails that are repeated; the broker has stored the repetitions."""

    keys = ("run.repeated",)
    max_bytes = MAX_VARIABLES_BYTES

    email_ids: tuple[Id, ...] = Field(max_length=MAX_REPEATED)


class ContentTypePaused(Event):
    """Signals that a content type sends no mail until an operator resumes it."""

    keys = ("content.paused",)

    name: Id
    client: Id | None = None
    reason: str = Field(max_length=200, description="In words")
