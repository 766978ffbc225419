"""Recipient domains: the reports about them, the evidence and the verdict."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from shared.contracts.address import domain_of
from shared.contracts.fields import (
    NOT_EMPTY,
    Address,
    Count,
    Domain,
    DomainText,
    Id,
    Moment,
    at_most,
)
from shared.contracts.message import Answer, Event, Question

MAX_SIGHTINGS = 1000  # of a report: some 150 kB
MAX_LISTED = 1000  # domains of a page
MAX_MANY_BYTES = 2 * 1024 * 1024  # of a report or a page: 2 kB for each of its entries
MAX_REASON_CHARS = 1000
MAX_CLASSES = 100  # of refusals; there are 16 reply classes now
MAX_CLASS_CHARS = 50


class Verdict(StrEnum):
    """The verdict of the evidence on a recipient domain."""

    CATCH_ALL = "catch-all"
    NOT_CATCH_ALL = "not-catch-all"
    UNKNOWN = "unknown"


class Kind(StrEnum):
    """The outcome of a mail that was sent without this pipeline."""

    DELIVERED = "delivered"
    BOUNCED = "bounced"  # no such mailbox


class Sighting(BaseModel):
    """The outcome, for one recipient, of a mail that was sent without this pipeline.

    All fields but `at` identify the event: a copy with the same fields counts once.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Id = Field(description="The same for every copy; unique for a client")
    domain: Domain
    kind: Kind
    at: Moment = Field(description="When it happened")
    recipient: Address | None = Field(
        None,
        repr=False,
        description="At that domain; the number of distinct ones is estimated, no address is kept",
    )
    email_id: Id | None = Field(
        None, description="The mail, so that a late bounce cancels its delivery"
    )

    @field_validator("recipient")
    @classmethod
    def _at_the_domain(cls, recipient: str | None, info: ValidationInfo) -> str | None:
        # A wrong domain is reported by its own field.
        if recipient and domain_of(recipient) != info.data.get("domain", domain_of(recipient)):
            raise ValueError("must be an address at the domain")
        return recipient


class FeedbackReported(Event):
    """Signals the outcomes of one or many mails that were sent without this pipeline."""

    keys = ("feedback.reported",)
    must_arrive = True  # its sender was answered that it is kept
    max_bytes = MAX_MANY_BYTES

    client: Id | None = None
    sightings: Annotated[tuple[Sighting, ...], NOT_EMPTY] = Field(
        max_length=MAX_SIGHTINGS, fail_fast=True, json_schema_extra={"minItems": 1}
    )


class DomainClassified(Event):
    """Signals that the verdict on a domain has changed."""

    keys = ("domain.classified",)

    domain: DomainText
    status: Verdict


class DescribeDomain(Question):
    """Asks for the evidence on a domain."""

    keys = ("domain.describe",)

    domain: Domain


class ListDomains(Question):
    """Asks for a page of the known domains, sorted by name."""

    keys = ("domain.list",)

    status: Verdict | None = Field(None, description="Only domains of this verdict; all if absent")
    after: Domain | None = Field(None, description="The last domain of the page before")
    limit: int = Field(100, ge=1, le=MAX_LISTED)


class CountDomains(Question):
    """Asks for the numbers of known domains and events."""

    keys = ("domain.count",)


Refusals = Annotated[
    Mapping[Annotated[str, StringConstraints(max_length=MAX_CLASS_CHARS)], Count],
    Field(max_length=MAX_CLASSES),
    at_most(MAX_CLASSES),
]


class DomainEvidence(BaseModel):
    """The evidence on a domain, and the verdict with its reason."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    domain: DomainText
    status: Verdict
    delivered: Count
    bounced: Count = Field(description="Mails refused because the mailbox does not exist")
    since: Moment | None = Field(
        None, description="The time of its first event; absent if it has none"
    )
    last_event_at: Moment | None = None
    reason: str = Field(
        "",
        max_length=MAX_REASON_CHARS,
        description="The counts and the rule that decided, in words",
    )
    refusals: Refusals = Field(
        default_factory=dict, description="All other refusals, by reply class; they are no evidence"
    )
    recipients: Count | None = Field(
        None,
        description="Distinct recipients with a delivery, estimated; only in the mode `evidence`",
    )
    taken_back: Count | None = Field(
        None, description="Deliveries that a late bounce has cancelled; only in the mode `evidence`"
    )


class DomainDescribed(DomainEvidence, Answer):
    """Answers with the evidence on a domain; a domain without events is `unknown`."""

    keys = ("domain.described",)


class DomainsListed(Answer):
    """Answers with a page of domains."""

    keys = ("domain.listed",)

    max_bytes = MAX_MANY_BYTES

    domains: tuple[DomainEvidence, ...] = Field(max_length=MAX_LISTED, fail_fast=True)
    next: DomainText | None = Field(
        None, description="`after` of the next page; absent at the last one"
    )


class DomainsCounted(Answer):
    """Answers with the numbers of domains by verdict, and of events by kind."""

    keys = ("domain.counted",)

    catch_all: Count
    not_catch_all: Count
    unknown: Count
    total: Count
    delivered: Count
    bounced: Count
