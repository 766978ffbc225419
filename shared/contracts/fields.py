"""The types of fields: the form and the limits of each value that comes in.

Every type has an upper bound. A text's length is checked before its form, and the first wrong item
ends the check of its list: refusing a value costs no more than reading it (issue 10, A2).
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
)

from shared.contracts import address

MAX_ID_CHARS = 100
MAX_REPLY_MAILBOXES = 10  # of Reply-To
MAX_TAGS = 10  # of one message
MAX_TAG_CHARS = 256  # of a tag's name, and of its value
MAX_METADATA = 20  # entries of one message
MAX_METADATA_KEY_CHARS = 40
MAX_METADATA_VALUE_CHARS = 500
MAX_RECIPIENTS = 100  # of one message: RFC 5321 4.5.3.1.8, what every server must accept
MAX_SUBJECT_CHARS = 900  # fits one line of 998 octets (RFC 5322 2.1.1) when it is ASCII
# A display name of 200 characters with a backslash before each, and an address of 254 (RFC 5321
# 4.5.3.1, errata 1690).
MAX_MAILBOX_CHARS = 700
MAX_PART_CHARS = 4 * 1024 * 1024  # of a text or an HTML part: relays seldom take more than 10 MB
MAX_IP_CHARS = 45  # an IPv6 address with an IPv4 address in it (RFC 4291 2.2)
MAX_RETRIES = 1000  # far beyond what any schedule has room for
MAX_ATTEMPTS = 100_000  # a mail that is deferred by 5 s each time for four days has 69,000
MAX_COUNT = 2**53 - 1  # exact in the JSON numbers of every language (RFC 8259 6)
MAX_SECONDS = 10 * 366 * 86_400.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Another zone's time of the same instant still has a year that Python and ISO 8601 know.
END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
# The forms that the checks take, as far as JSON Schema can express them; never narrower.
MAILBOX_FORM = r"[^@\s<>]@[^@\s<>]+>?$"
SUBJECT_FORM = r"^(?!.*=\?)[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
TEXT_FORM = r"^[^\u0000]*$"
DOMAIN_FORM = r"^\s*[^\s@]+\s*$"
ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
PURPOSE = r"^[a-z][a-z0-9-]{0,31}$"
TAG = r"^[A-Za-z0-9_-]{1,256}$"
METADATA_FORM = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
LOCALE = r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*$"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

T = TypeVar("T")


def matching(pattern: str, words: str) -> AfterValidator:
    """Return the check of a setting's form, whose mistakes have `words`.

    A contract's field has its pattern in its JSON Schema, and its words in `wording.PATTERNS`.
    """

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(words)
        return text

    return AfterValidator(check)


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must have no NUL character")
    return text


def as_list(value: object) -> object:
    """Return a text as a list of one, anything else as it is."""
    return [value] if isinstance(value, str) else value


def _as_one(mailboxes: tuple[str, ...] | None) -> str | tuple[str, ...] | None:
    """Return a single mailbox as a text: a sender of version 0.1 reads no list in `reply_to`."""
    return mailboxes[0] if mailboxes is not None and len(mailboxes) == 1 else mailboxes


def _absent_if_empty(items: tuple[T, ...] | None) -> tuple[T, ...] | None:
    return items or None


def _not_empty(items: tuple[T, ...]) -> tuple[T, ...]:
    if not items:
        raise ValueError("must have at least one item")
    return items


def at_most(entries: int) -> BeforeValidator:
    """Return the check of a mapping's length, which comes before the checks of its entries.

    Without it pydantic keeps an error for every wrong entry: the check of a list can end at the
    first error, the check of a mapping cannot (pydantic 2.14).
    """

    def check(value: object) -> object:
        if isinstance(value, Mapping) and len(value) > entries:
            raise ValueError(f"must have at most {entries} entries")
        return value

    return BeforeValidator(check)


def no_control(text: str) -> str:
    """Return a text of one line. Raises ValueError."""
    if _CONTROL.search(text):
        raise ValueError("must have no control characters such as line ends")
    return text


def _ip_text(value: object) -> object:
    """Raise ValueError for a text that is too long, or has a zone, which is local to a host."""
    if isinstance(value, str) and (len(value) > MAX_IP_CHARS or "%" in value):
        raise ValueError("must be an IPv4 or IPv6 address")
    return value


def _absent_before_1970(moment: datetime | None) -> datetime | None:
    """Return None for the zero time of a language, such as Go's in the year 1 (issue 10, S6)."""
    return None if moment is not None and moment < EPOCH else moment


# Not `min_length`: after a wrong item it reports the list as empty (pydantic 2.14).
NOT_EMPTY = AfterValidator(_not_empty)
Id = Annotated[
    str,
    StringConstraints(pattern=ID, max_length=MAX_ID_CHARS),
]
ShortText = Annotated[str, StringConstraints(max_length=MAX_MAILBOX_CHARS)]
_MAILBOX = {"minLength": 3, "pattern": MAILBOX_FORM}
Address = Annotated[
    ShortText,
    AfterValidator(address.check_address),
    Field(json_schema_extra={"format": "idn-email", **_MAILBOX}),
]
MailboxText = Annotated[ShortText, Field(json_schema_extra={**_MAILBOX})]
Mailbox = Annotated[MailboxText, AfterValidator(address.check_mailbox)]
Addresses = Annotated[tuple[Address, ...], Field(max_length=MAX_RECIPIENTS, fail_fast=True)]
Mailboxes = Annotated[
    tuple[Mailbox, ...],
    Field(max_length=MAX_RECIPIENTS, fail_fast=True),
    BeforeValidator(
        as_list,
        json_schema_input_type=MailboxText
        | Annotated[list[MailboxText], Field(max_length=MAX_RECIPIENTS)],
    ),
]
ReplyTo = Annotated[
    Annotated[tuple[Mailbox, ...], Field(max_length=MAX_REPLY_MAILBOXES, fail_fast=True)] | None,
    BeforeValidator(
        as_list,
        json_schema_input_type=MailboxText
        | Annotated[list[MailboxText], Field(max_length=MAX_REPLY_MAILBOXES)]
        | None,
    ),
    AfterValidator(_absent_if_empty),
    PlainSerializer(_as_one),
]
DomainText = Annotated[str, StringConstraints(max_length=address.MAX_DOMAIN_CHARS + 1)]
Domain = Annotated[
    DomainText,
    AfterValidator(address.check_domain),
    Field(json_schema_extra={"minLength": 3, "pattern": DOMAIN_FORM}),
]
Subject = Annotated[
    str,
    StringConstraints(max_length=MAX_SUBJECT_CHARS),
    AfterValidator(address.check_header_text),
    Field(json_schema_extra={"pattern": SUBJECT_FORM}),
]
Text = Annotated[
    str,
    StringConstraints(max_length=MAX_PART_CHARS),
    AfterValidator(_no_nul),
    Field(json_schema_extra={"pattern": TEXT_FORM}),
]
# A short name that a deployment may choose.
Purpose = Annotated[str, StringConstraints(pattern=PURPOSE, max_length=32)]
# A language tag (BCP 47); 35 characters are enough for any (RFC 5646 4.4.1).
Locale = Annotated[str, StringConstraints(pattern=LOCALE, max_length=35)]
IpAddress = Annotated[IPv4Address | IPv6Address, BeforeValidator(_ip_text)]
Attempt = Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)]
Retries = Annotated[int, Field(ge=0, le=MAX_RETRIES)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
# JSON has no way to write a NaN.
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
_Bounded = Annotated[
    AwareDatetime,
    Field(lt=END_OF_TIME, json_schema_extra={"formatExclusiveMaximum": END_OF_TIME.isoformat()}),
]
Moment = Annotated[
    _Bounded, Field(ge=EPOCH, json_schema_extra={"formatMinimum": EPOCH.isoformat()})
]
OptionalMoment = Annotated[_Bounded | None, AfterValidator(_absent_before_1970)]
TagText = Annotated[str, StringConstraints(pattern=TAG, max_length=MAX_TAG_CHARS)]


class Tag(BaseModel):
    """A label of a mail, by which its outcomes are found and counted."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    name: TagText
    value: TagText


def check_tags(tags: Sequence[Tag]) -> Sequence[Tag]:
    """Return the tags if each name is there once. Raises ValueError."""
    if len({tag.name for tag in tags}) < len(tags):
        raise ValueError("must each have a name of its own")
    return tags


Tags = Annotated[
    tuple[Tag, ...], Field(max_length=MAX_TAGS, fail_fast=True), AfterValidator(check_tags)
]
LineText = Annotated[
    str,
    StringConstraints(max_length=MAX_METADATA_VALUE_CHARS),
    AfterValidator(no_control),
    Field(json_schema_extra={"pattern": METADATA_FORM}),
]
Metadata = Annotated[
    Mapping[
        Annotated[
            str,
            StringConstraints(min_length=1, max_length=MAX_METADATA_KEY_CHARS),
            AfterValidator(no_control),
        ],
        LineText,
    ],
    Field(
        max_length=MAX_METADATA,
        json_schema_extra={
            "propertyNames": {
                "minLength": 1,
                "maxLength": MAX_METADATA_KEY_CHARS,
                "pattern": METADATA_FORM,
            }
        },
    ),
    at_most(MAX_METADATA),
]
