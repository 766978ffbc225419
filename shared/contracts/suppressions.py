"""Suppressed addresses: the entries, the events that copy them, and the questions about them.

An entry stops mail to one address, of some classes, of one client or of all, of one list or of all:

| origin        | client    | list            | stops                    |
|---------------|-----------|-----------------|--------------------------|
| `bounce`      | all       | all             | every class              |
| `complaint`   | of the mail | all           | transactional and bulk   |
| `unsubscribe` | of the mail | one, or all   | bulk                     |
| `manual`      | one, or all | one, or all   | the classes that are named |
"""

import base64
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from shared.contracts.fields import (
    MAX_COUNT,
    MAX_MAILBOX_CHARS,
    METADATA_FORM,
    NOT_EMPTY,
    Address,
    Id,
    Moment,
    no_control,
)
from shared.contracts.mail import Category
from shared.contracts.message import Answer, Command, Event, Question

MAX_REASON_CHARS = 200
MAX_CHANGES = 1000  # addresses of one question
MAX_LISTED_SUPPRESSIONS = 1000  # entries of a page
MAX_MANY_BYTES = 2 * 1024 * 1024  # of a page or a change: 2 kB for each of its entries
ADDRESS_KEY = "^[0-9a-f]{64}$"
CURSOR = "^[A-Za-z0-9_-]+={0,2}$"
CURSOR_TEXTS = 4  # after its time: the key of an entry

AddressKey = Annotated[str, StringConstraints(pattern=ADDRESS_KEY, max_length=64)]
Categories = Annotated[
    tuple[Category, ...], Field(max_length=len(Category), fail_fast=True), NOT_EMPTY
]
ReasonText = Annotated[
    str,
    StringConstraints(max_length=MAX_REASON_CHARS),
    AfterValidator(no_control),
    Field(json_schema_extra={"pattern": METADATA_FORM}),
]


def _check_cursor(text: str) -> str:
    try:
        at, *key = orjson.loads(base64.urlsafe_b64decode(text))
    except (ValueError, TypeError):
        at, key = None, []
    is_moment = type(at) is int and 0 <= at <= MAX_COUNT
    if not is_moment or [*map(type, key)] != [str] * CURSOR_TEXTS or "\0" in "".join(key):
        raise ValueError("must be `next` of the page before")
    return text


# base64 (RFC 4648 5) of the time and the key of an entry, in JSON.
SuppressionCursor = Annotated[
    str,
    StringConstraints(pattern=CURSOR, max_length=MAX_MAILBOX_CHARS),
    AfterValidator(_check_cursor),
]


class SuppressionOrigin(StrEnum):
    """The source of an entry; one address may have an entry of each."""

    BOUNCE = "bounce"  # the recipient's server has no such mailbox
    COMPLAINT = "complaint"  # the recipient reported a mail as spam
    UNSUBSCRIBE = "unsubscribe"
    MANUAL = "manual"


class SuppressionScope(BaseModel):
    """The mail that an entry stops. With the origin and the address it identifies the entry."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    client: Id | None = Field(None, description="Mail of this client alone; of all if absent")
    list_id: Id | None = Field(None, description="Mail of this list alone; of all if absent")


class Suppression(SuppressionScope):
    """An address that gets no mail of some classes."""

    email: Address | None = Field(
        None, repr=False, description="Absent once the person was forgotten"
    )
    address_key: AddressKey = Field(
        description="A keyed hash of the address in lower case, by which it is looked up"
    )
    categories: Categories = Field(description="The classes of mail that are stopped")
    origin: SuppressionOrigin
    reason: ReasonText = Field("", description="In words")
    email_id: Id | None = Field(None, description="The message that led to the entry")
    at: Moment = Field(description="When the entry was made")
    expires_at: Moment | None = Field(None, description="It has no effect from then on")


class SuppressionAdded(Event):
    """Signals that an entry was added or changed."""

    keys = ("suppression.added",)
    must_arrive = True  # a sender without its copy would mail the address

    suppression: Suppression
    version: int = Field(ge=0, le=MAX_COUNT, description="Of one entry, a later one is higher")


class SuppressionRemoved(Event):
    """Signals that an entry has no effect any more."""

    keys = ("suppression.removed",)
    must_arrive = True

    suppression: Suppression
    version: int = Field(ge=0, le=MAX_COUNT, description="Of one entry, a later one is higher")


class DescribeSuppression(Question):
    """Asks for the entries of an address: those of a client, and those of all clients."""

    keys = ("suppression.describe",)

    email: Address
    client: Id | None = Field(None, description="Entries of every client if absent")


class ListSuppressions(Question):
    """Asks for a page of entries, the newest first: of a client, and bounces of its mails."""

    keys = ("suppression.list",)

    client: Id | None = Field(None, description="Entries of every client if absent")
    origin: SuppressionOrigin | None = None
    after: SuppressionCursor | None = Field(None, description="`next` of the page before")
    limit: int = Field(100, ge=1, le=MAX_LISTED_SUPPRESSIONS)


class SuppressionsListed(Answer):
    """Answers with entries, a page of them or those of one address."""

    keys = ("suppression.listed",)

    max_bytes = MAX_MANY_BYTES

    suppressions: tuple[Suppression, ...] = Field(max_length=MAX_LISTED_SUPPRESSIONS)
    next: SuppressionCursor | None = Field(
        None, description="`after` of the next page; absent at the last"
    )


def stopped_categories(
    categories: Sequence[Category] | None, list_id: str | None, origin: SuppressionOrigin
) -> tuple[Category, ...]:
    """Return the classes that a new entry stops, each once; those by default for None.

    Mail of the other classes is of no list, so an entry of a list would not stop it. Raises
    ValueError.
    """
    is_of_bulk = list_id is not None or origin is SuppressionOrigin.UNSUBSCRIBE
    if categories is None:
        return (Category.BULK,) if is_of_bulk else (Category.TRANSACTIONAL, Category.BULK)
    if is_of_bulk and set(categories) - {Category.BULK}:
        raise ValueError("must be bulk alone for one list or for the origin unsubscribe")
    return tuple(dict.fromkeys(categories))


def _default_categories(fields: Mapping[str, Any]) -> tuple[Category, ...]:
    # A field that is refused is absent here.
    origin = fields.get("origin", SuppressionOrigin.MANUAL)
    return stopped_categories(None, fields.get("list_id"), origin)


class NewSuppression(SuppressionScope):
    """An entry to be added by hand, or by a link to unsubscribe."""

    email: Address = Field(repr=False)
    origin: SuppressionOrigin = SuppressionOrigin.MANUAL
    categories: Categories = Field(
        default_factory=_default_categories,
        description="The mail that is stopped; transactional and bulk if absent. Of one list, or "
        "of the origin unsubscribe, it is bulk alone, also if absent",
    )
    reason: ReasonText = ""
    expires_at: Moment | None = None

    @field_validator("categories")
    @classmethod
    def _stops_bulk_of_a_list(
        cls, categories: tuple[Category, ...], info: ValidationInfo
    ) -> tuple[Category, ...]:
        origin = info.data.get("origin", SuppressionOrigin.MANUAL)
        return stopped_categories(categories, info.data.get("list_id"), origin)


class AddSuppressions(Question):
    """Asks for entries to be added; an entry that exists is replaced. Asked again, it is the same.

    The answer comes after the commit.
    """

    keys = ("suppression.add",)
    max_bytes = MAX_MANY_BYTES

    suppressions: Annotated[tuple[NewSuppression, ...], NOT_EMPTY] = Field(
        max_length=MAX_CHANGES, fail_fast=True
    )


class RemoveSuppressions(Question):
    """Asks for the entries of some addresses to be removed. The answer comes after the commit.

    Those of the client are removed, and those of bounces, which are of all clients. Without a
    client those of all clients are removed.
    """

    keys = ("suppression.remove",)
    max_bytes = MAX_MANY_BYTES

    emails: Annotated[tuple[Address, ...], NOT_EMPTY] = Field(
        max_length=MAX_CHANGES, fail_fast=True
    )
    client: Id | None = None
    origin: SuppressionOrigin | None = Field(None, description="Only those; all if absent")
    list_id: Id | None = Field(
        None, description="Only those of this list; of any list, and of all lists, if absent"
    )


class SuppressionsChanged(Answer):
    """Answers that the changes are committed."""

    keys = ("suppression.changed",)
    max_bytes = MAX_MANY_BYTES

    suppressions: tuple[Suppression, ...] = Field(
        max_length=MAX_CHANGES * 10, description="The entries that were added or removed"
    )


class AnnounceSuppressions(Command):
    """Asks the ledger to publish all entries again, for a sender with a new or restored database.

    Versions make each copy harmless.
    """

    keys = ("suppression.announce",)


class ForgetAddress(Command):
    """Asks every service to remove what it keeps of a person's address.

    An opt-out stays as a keyed hash, so that it still counts.
    """

    keys = ("address.forget",)

    email: Address = Field(repr=False)
