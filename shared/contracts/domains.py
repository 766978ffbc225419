"""Recipient domains: what is reported of them, and what the evidence says."""

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

MAX_SIGHTINGS = 1000  # a report: some 150 kB, which a broker passes on at once
MAX_LISTED = 1000  # domains a page
MAX_MANY_BYTES = 2 * 1024 * 1024  # of a report or a page: 2 kB for each entry are plenty
MAX_REASON_CHARS = 1000
MAX_CLASSES = 100  # of refusals; there are 16 reply classes now
MAX_CLASS_CHARS = 50


class Verdict(StrEnum):
    """What the evidence says of a recipient domain."""

    CATCH_ALL = "catch-all"
    NOT_CATCH_ALL = "not-catch-all"
    UNKNOWN = "unknown"


class Kind(StrEnum):
    """What somebody has seen become of a mail."""

    DELIVERED = "delivered"
    BOUNCED = "bounced"  # no such mailbox


class Sighting(BaseModel):
    """What became of one mail that went another way, for one recipient.

    All fields but `at` say which event it is: a copy with the same ones counts once.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Id = Field(description="The same for every copy; a name space for each client")
    domain: Domain
    kind: Kind
    at: Moment = Field(description="When it happened")
    recipient: Address | None = Field(
        None, repr=False, description="At that domain; distinct ones are estimated, none is kept"
    )
    email_id: Id | None = Field(
        None, description="The mail, so that its late bounce takes its delivery back"
    )

    @field_validator("recipient")
    @classmethod
    def _at_the_domain(cls, recipient: str | None, info: ValidationInfo) -> str | None:
        # A wrong domain is told by its own field.
        if recipient and domain_of(recipient) != info.data.get("domain", domain_of(recipient)):
            raise ValueError("must be an address at the domain")
        return recipient


class FeedbackReported(Event):
    """Signals what became of mails that went another way, of one or of many."""

    keys = ("feedback.reported",)
    must_arrive = True  # its sender was told that it is kept
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
    """Asks what is known about a domain."""

    keys = ("domain.describe",)

    domain: Domain


class ListDomains(Question):
    """Asks for the domains that are known, by name, a page at a time."""

    keys = ("domain.list",)

    status: Verdict | None = Field(None, description="Only those; all if absent")
    after: Domain | None = Field(None, description="The last domain of the page before")
    limit: int = Field(100, ge=1, le=MAX_LISTED)


class CountDomains(Question):
    """Asks how many domains and events are known."""

    keys = ("domain.count",)


Refusals = Annotated[
    Mapping[Annotated[str, StringConstraints(max_length=MAX_CLASS_CHARS)], Count],
    Field(max_length=MAX_CLASSES),
    at_most(MAX_CLASSES),
]


class DomainEvidence(BaseModel):
    """What is known about a domain, and the rule that decides."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    domain: DomainText
    status: Verdict
    delivered: Count
    bounced: Count = Field(description="Refused since there is no such mailbox")
    since: Moment | None = Field(None, description="Its first event; absent if never seen")
    last_event_at: Moment | None = None
    reason: str = Field(
        "", max_length=MAX_REASON_CHARS, description="The counts and the rule that decide, in words"
    )
    refusals: Refusals = Field(
        default_factory=dict, description="All others, by reply class; they are no evidence"
    )
    recipients: Count | None = Field(
        None, description="Distinct ones delivered to, estimated; in the mode `evidence` alone"
    )
    taken_back: Count | None = Field(
        None, description="Deliveries whose bounce came late; in the mode `evidence` alone"
    )


class DomainDescribed(DomainEvidence, Answer):
    """Answers with the evidence on a domain; one never seen is `unknown`."""

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
    """Answers with the number of domains by status, and of events."""

    keys = ("domain.counted",)

    catch_all: Count
    not_catch_all: Count
    unknown: Count
    total: Count
    delivered: Count
    bounced: Count
