"""Pure: the bodies of answers that are no problem."""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.api.reports import EventRefusal
from shared.contracts import CodeIssued, DomainsCounted, ReplyClass, Sighting, Stage, Verdict
from shared.contracts.domains import DomainEvidence


class ResponseBody(BaseModel):
    """A body of an answer; absent fields are left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def encode(self) -> bytes:
        """Return the JSON and a line end, so that a terminal's prompt has a line of its own."""
        return f"{self.model_dump_json(exclude_none=True)}\n".encode()


class Accepted(ResponseBody):
    """It is kept and will be done, whatever breaks from now on."""

    id: str
    status: Literal["accepted"] = "accepted"


class SmtpReply(ResponseBody):
    """What the receiving server said, and at which stage of the conversation."""

    stage: Stage
    code: int = Field(description="RFC 5321 4.2; 0 when there was no reply at all")
    enhanced: str | None = Field(None, description="RFC 3463, such as 5.1.1")
    text: str


class RecipientOutcome(ResponseBody):
    """What became of a message for one recipient."""

    recipient: str
    outcome: Literal["delivered", "bounced", "failed", "expired", "uncertain"] = Field(
        description="delivered: the next server took it. bounced: it refused the recipient for "
        "good. failed: it could not be sent, whoever the recipient is. expired: given up after "
        "its time. uncertain: the server's last reply was lost, it may have been delivered."
    )
    attempt: int = Field(description="Which attempt it was, from 1")
    reply: SmtpReply | None = None
    reply_class: ReplyClass | None = Field(None, description="What the refusal says")
    reason: str | None = Field(None, description="Why it failed")


class Finished(ResponseBody):
    """The message has an outcome for every recipient; nothing more will be said of it."""

    id: str
    status: Literal["final"] = "final"
    recipients: list[RecipientOutcome]


class CodeSent(ResponseBody):
    """A code is on its way by mail."""

    id: str
    expires_at: datetime
    resend_at: datetime = Field(description="Before that nothing more is mailed")

    @classmethod
    def of(cls, issued: CodeIssued) -> Self:
        """Give what of it is the caller's business."""
        return cls(id=issued.challenge_id, expires_at=issued.expires_at, resend_at=issued.resend_at)


class Verified(ResponseBody):
    """Whether the code was right. Wrong, used, expired and unknown ones are told alike."""

    verified: bool
    id: str | None = Field(None, description="Of the code, as POST /v1/otp told it")


class Domain(ResponseBody):
    """What the deliveries and bounces so far say of a domain."""

    domain: str = Field(description="In lower case, as A-labels")
    status: Verdict
    delivered: int
    bounced: int = Field(description="Refused since there is no such mailbox")
    since: datetime | None = Field(None, description="Its first event; absent if never seen")
    last_event_at: datetime | None = None
    reason: str = Field(description="The counts and the rule that decide, in words")
    refusals: dict[str, int] = Field(
        description="All others, by the class of the reply; they are no evidence"
    )
    recipients: int | None = Field(
        None, description="Distinct ones delivered to, estimated; in the mode `evidence` alone"
    )
    taken_back: int | None = Field(
        None, description="Deliveries whose bounce came late; in the mode `evidence` alone"
    )

    @classmethod
    def of(cls, known: DomainEvidence) -> "Domain":
        """Give what is known; it was checked where it was read."""
        return cls.model_construct(**{name: getattr(known, name) for name in cls.model_fields})


class Domains(ResponseBody):
    """A page of the domains that are known, by name."""

    domains: list[Domain]
    next: str | None = Field(None, description="`after` of the next page; absent at the last one")


class DomainCounts(ResponseBody):
    """How many domains and events are known."""

    catch_all: int
    not_catch_all: int
    unknown: int
    total: int
    delivered: int
    bounced: int

    @classmethod
    def of(cls, counted: DomainsCounted) -> "DomainCounts":
        """Give the numbers."""
        return cls(
            catch_all=counted.catch_all,
            not_catch_all=counted.not_catch_all,
            unknown=counted.unknown,
            total=counted.total,
            delivered=counted.delivered,
            bounced=counted.bounced,
        )


class EventMistake(ResponseBody):
    """One mistake in an event."""

    pointer: str = Field(description="Where: a JSON Pointer into the event, such as #/domain")
    detail: str


class EventAnswer(ResponseBody):
    """What became of one of the events."""

    status: Literal["accepted", "refused"]
    id: str | None = Field(None, description="Of an accepted event")
    errors: list[EventMistake] | None = Field(None, description="Of a refused one")

    @classmethod
    def of(cls, event: Sighting | EventRefusal) -> "EventAnswer":
        """Tell it."""
        if isinstance(event, Sighting):
            return cls(status="accepted", id=event.id)
        errors = [EventMistake(pointer=each.pointer, detail=each.detail) for each in event.mistakes]
        return cls(status="refused", errors=errors)


class EventsAnswer(ResponseBody):
    """What became of all events; what is accepted is kept."""

    accepted: int
    refused: int
    events: list[EventAnswer] = Field(description="In the order of the request")


class ClientKey(ResponseBody):
    """A new client's key, told this once."""

    id: str
    api_key: str


class Health(ResponseBody):
    """Whether the service works, with each check by name."""

    status: str
    checks: dict[str, bool] | None = None
