"""Pure: the bodies of answers that are no problem."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts import ReplyClass, Stage, Verdict


class Answer(BaseModel):
    """A body of an answer; absent fields are left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def encode(self) -> bytes:
        """Give the JSON."""
        return self.model_dump_json(exclude_none=True).encode()


class Accepted(Answer):
    """It is kept and will be done, whatever breaks from now on."""

    id: str
    status: Literal["accepted"] = "accepted"


class SmtpReply(Answer):
    """What the receiving server said, and at which stage of the conversation."""

    stage: Stage
    code: int = Field(description="RFC 5321 4.2; 0 when there was no reply at all")
    enhanced: str | None = Field(None, description="RFC 3463, such as 5.1.1")
    text: str


class RecipientOutcome(Answer):
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


class Finished(Answer):
    """The message has an outcome for every recipient; nothing more will be said of it."""

    id: str
    status: Literal["final"] = "final"
    recipients: list[RecipientOutcome]


class Verified(Answer):
    """Whether the code was right. Wrong, used, expired and unknown ones are told alike."""

    verified: bool


class Domain(Answer):
    """What the deliveries and bounces so far say of a domain."""

    domain: str = Field(description="In lower case, as A-labels")
    status: Verdict
    delivered: int
    bounced: int


class ClientKey(Answer):
    """A new client's key, told this once."""

    id: str
    api_key: str


class Health(Answer):
    """Whether the service works, with each check by name."""

    status: str
    checks: dict[str, bool] | None = None
