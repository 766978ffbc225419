"""One-time codes: asked for, issued, verified, refused."""

from pydantic import AwareDatetime, Field

from shared.contracts.message import Command, Event, Question
from shared.fields import Address, Id


class IssueCode(Command):
    """Asks for a one-time code to be mailed to an address."""

    keys = ("code.issue",)

    email: Address
    client: Id | None = None


class VerifyCode(Question):
    """Asks whether a code is right; a right one is used up by it.

    The same `id` asked again gets the same answer, so that a lost answer can be asked for again.
    """

    keys = ("code.verify",)

    email: Address
    code: str = Field(max_length=64, repr=False)
    client: Id | None = None


class CodeIssued(Event):
    """Signals that a code is on its way by mail."""

    keys = ("code.issued",)

    challenge_id: Id
    email: str
    expires_at: AwareDatetime


class CodeVerified(Event):
    """Signals that a code was right and is used up."""

    keys = ("code.verified",)

    challenge_id: Id
    email: str


class CodeRefused(Event):
    """Signals that a code was not right: wrong, expired, used, exhausted or unknown alike."""

    keys = ("code.refused",)

    email: str
