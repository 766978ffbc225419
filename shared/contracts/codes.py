"""One-time codes: asked for, issued, withheld, verified, refused, unchecked, cancelled."""

from enum import StrEnum

from pydantic import Field

from shared.contracts.fields import (
    Address,
    Id,
    IpAddress,
    Locale,
    Moment,
    Purpose,
    Seconds,
    ShortText,
)
from shared.contracts.message import Answer, Command, Event, Question

CONFIRM_ADDRESS = "confirm-address"  # what a code is for, if nothing else is said
MIN_DIGITS = 4
MAX_DIGITS = 8  # of nine digits RFC 4226's 31 bits would no more be uniform
MAX_TYPED_CHARS = 64  # of a code with the spaces and dashes that somebody put into it


class Withholding(StrEnum):
    """Why no code was mailed; neither tells whether anybody has the address."""

    COOLDOWN = "cooldown"  # one was, only just
    LIMIT = "limit"  # too many were, to whomever or for whomever


class IssueCode(Command):
    """Asks for a one-time code to be mailed to an address.

    While there is one for the same client, purpose and address it is mailed again, with its old
    expiry. Answered by `CodeIssued` or `CodeWithheld`; the same `id` gets the same answer.
    """

    keys = ("code.issue",)

    email: Address
    client: Id | None = None
    purpose: Purpose = Field(CONFIRM_ADDRESS, description="The code is right for nothing else")
    length: int | None = Field(
        None, ge=MIN_DIGITS, le=MAX_DIGITS, description="Digits; the deployment's default if absent"
    )
    locale: Locale | None = Field(
        None, description="Of the mail; the deployment's own if absent or unknown"
    )
    ip: IpAddress | None = Field(
        None, description="Of whoever wants the code; mails are limited by it"
    )


class VerifyCode(Question):
    """Asks whether a code is right; a right one is used up by it.

    Answered by `CodeVerified`, `CodeRefused` or `CodeUnchecked`. The same `id` asked again gets the
    same verdict, so that a lost answer can be asked for again.
    """

    keys = ("code.verify",)

    email: Address
    code: str = Field(max_length=MAX_TYPED_CHARS, repr=False)
    client: Id | None = None
    purpose: Purpose = CONFIRM_ADDRESS
    ip: IpAddress | None = Field(
        None, description="Of whoever typed the code; wrong ones are limited by it"
    )


class CancelCode(Command):
    """Asks that a code be right no more; harmless if it is not anyway.

    Answered by `CodeCancelled`.
    """

    keys = ("code.cancel",)

    challenge_id: Id
    client: Id | None = Field(None, description="Nothing of another client is cancelled")


class CodeIssued(Event):
    """Signals that a code is on its way by mail."""

    keys = ("code.issued",)

    challenge_id: Id
    email: ShortText
    client: Id | None = None
    purpose: Purpose = CONFIRM_ADDRESS
    expires_at: Moment
    resend_at: Moment = Field(description="Not to be asked for again before")


class CodeWithheld(Answer):
    """Answers that no code was mailed."""

    keys = ("code.withheld",)

    reason: Withholding
    retry_after: Seconds = Field(description="Seconds until it is worth asking again")


class CodeVerified(Event):
    """Signals that a code was right and is used up."""

    keys = ("code.verified",)

    challenge_id: Id
    email: ShortText
    client: Id | None = None
    purpose: Purpose = CONFIRM_ADDRESS


class CodeRefused(Event):
    """Signals that a code was not right: wrong, expired, used, exhausted or unknown alike."""

    keys = ("code.refused",)

    email: ShortText
    client: Id | None = None
    purpose: Purpose = CONFIRM_ADDRESS


class CodeUnchecked(Answer):
    """Answers that a code was not compared and the guess not counted: too many were wrong.

    Those are of the client or the IP address, at all recipients: it tells nothing of this one.
    """

    keys = ("code.unchecked",)

    retry_after: Seconds = Field(description="Seconds until it is worth asking again")


class CodeCancelled(Answer):
    """Answers that a code is right no more; it does not tell whether it ever was."""

    keys = ("code.cancelled",)

    challenge_id: Id
