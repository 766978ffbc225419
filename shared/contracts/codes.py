"""One-time codes: issued, withheld, verified, refused, unchecked, cancelled."""

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

CONFIRM_ADDRESS = "confirm-address"  # the purpose of a code by default
MIN_DIGITS = 4
MAX_DIGITS = 8  # codes of nine digits would not be uniform with the 31 bits of RFC 4226
MAX_TYPED_CHARS = 64  # of a code as it was typed, with spaces and dashes


class Withholding(StrEnum):
    """Why no code was mailed; neither reason shows whether the address exists."""

    COOLDOWN = "cooldown"  # the last code was mailed a moment ago
    LIMIT = "limit"  # too many codes were mailed to an address or domain, or for a client or IP


class IssueCode(Command):
    """Asks for a one-time code to be mailed to an address.

    A valid code for the same client, purpose and address is mailed again, with its old expiry.
    Answered by `CodeIssued` or `CodeWithheld`; the same `id` gets the same answer.
    """

    keys = ("code.issue",)

    email: Address
    client: Id | None = None
    purpose: Purpose = Field(CONFIRM_ADDRESS, description="The code is valid for no other purpose")
    length: int | None = Field(
        None, ge=MIN_DIGITS, le=MAX_DIGITS, description="Digits; the deployment's default if absent"
    )
    locale: Locale | None = Field(
        None, description="The language of the mail; the deployment's default if absent or unknown"
    )
    ip: IpAddress | None = Field(
        None,
        description="The IP address of the user who asks; the number of mails is limited by it",
    )


class VerifyCode(Question):
    """Asks whether a code is right; a right code cannot be used again.

    Answered by `CodeVerified`, `CodeRefused` or `CodeUnchecked`. The same `id` gets the
    same verdict, so that a lost answer can be asked for again.
    """

    keys = ("code.verify",)

    email: Address
    code: str = Field(max_length=MAX_TYPED_CHARS, repr=False)
    client: Id | None = None
    purpose: Purpose = CONFIRM_ADDRESS
    ip: IpAddress | None = Field(
        None,
        description="The IP address of the user who typed it; wrong guesses are limited by it",
    )


class CancelCode(Command):
    """Asks that a code become invalid; harmless if it is invalid already.

    Answered by `CodeCancelled`.
    """

    keys = ("code.cancel",)

    challenge_id: Id
    client: Id | None = Field(None, description="A code of another client is not cancelled")


class CodeIssued(Event):
    """Signals that a code is on its way by mail."""

    keys = ("code.issued",)

    challenge_id: Id
    email: ShortText
    client: Id | None = None
    purpose: Purpose = CONFIRM_ADDRESS
    expires_at: Moment
    resend_at: Moment = Field(description="Before then, asking again is refused")


class CodeWithheld(Answer):
    """Answers that no code was mailed."""

    keys = ("code.withheld",)

    reason: Withholding
    retry_after: Seconds = Field(description="Seconds until it is worth asking again")


class CodeVerified(Event):
    """Signals that a code was right; it cannot be used again."""

    keys = ("code.verified",)

    challenge_id: Id
    email: ShortText
    client: Id | None = None
    purpose: Purpose = CONFIRM_ADDRESS


class CodeRefused(Event):
    """Signals that a code was not accepted: wrong, expired, used, exhausted or unknown alike."""

    keys = ("code.refused",)

    email: ShortText
    client: Id | None = None
    purpose: Purpose = CONFIRM_ADDRESS


class CodeUnchecked(Answer):
    """Answers that a code was not compared, and the guess not counted: too many were wrong.

    The wrong guesses of the client or the IP address are counted over all recipients, so the answer
    reveals nothing about this one.
    """

    keys = ("code.unchecked",)

    retry_after: Seconds = Field(description="Seconds until it is worth asking again")


class CodeCancelled(Answer):
    """Answers that a code is invalid; it does not reveal whether it was ever valid."""

    keys = ("code.cancelled",)

    challenge_id: Id
