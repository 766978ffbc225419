"""The command to send a mail."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AwareDatetime, Field, model_validator

from shared import address, header
from shared.attachment import Attachments
from shared.contracts.message import Command
from shared.fields import MAX_RECIPIENTS, Address, Id, Mailbox, Mailboxes, Subject, Text


class Category(StrEnum):
    """The three sending classes; each has a queue and SMTP connections of its own."""

    OTP = "otp"
    TRANSACTIONAL = "transactional"
    BULK = "bulk"


class SendEmail(Command):
    """Asks the sender to deliver one message to each of its recipients."""

    keys = ("email.send.otp", "email.send.transactional", "email.send.bulk")

    category: Category = Category.TRANSACTIONAL
    from_: Mailbox | None = Field(None, alias="from", description="The sender's default if absent")
    to: Mailboxes = Field(min_length=1)
    cc: Mailboxes = ()
    bcc: Mailboxes = ()
    reply_to: Mailbox | None = None
    subject: Subject
    text: Text | None = Field(None, repr=False)
    html: Text | None = Field(None, repr=False)
    sealed: str | None = Field(None, repr=False, description="Content only the sender can open")
    attachments: Attachments = Field((), repr=False)
    headers: header.Headers = Field(default_factory=dict, description="List-*, X-* and a few more")
    client: Id | None = None
    created_at: AwareDatetime | None = Field(None, description="When it was accepted")
    expires_at: AwareDatetime | None = Field(None, description="Not to be sent from then on")
    retries: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Further attempts at most; the class's schedule alone if absent"
    )
    attempt: Annotated[int, Field(ge=1)] = 1
    pending: tuple[Address, ...] | None = Field(None, description="Who is left; everyone if absent")

    @property
    def routing_key(self) -> str:
        """One key a category, so that each has a queue of its own."""
        return f"email.send.{self.category}"

    @property
    def recipients(self) -> tuple[str, ...]:
        """The envelope's recipients of this attempt: each address once."""
        if self.pending is not None:
            return self.pending
        everyone = (*self.to, *self.cc, *self.bcc)
        return tuple(dict.fromkeys(map(address.bare_address, everyone)))

    @model_validator(mode="after")
    def _has_content_and_room(self) -> Self:
        if self.text is None and self.html is None and self.sealed is None:
            raise ValueError("must have a text or an html part")
        if len(self.to) + len(self.cc) + len(self.bcc) > MAX_RECIPIENTS:
            raise ValueError(f"must have at most {MAX_RECIPIENTS} recipients")
        if self.category is Category.OTP and header.UNSUBSCRIBE in self.headers:
            raise ValueError("must not offer to unsubscribe from a code")
        return self
