"""One-time codes: mailed, verified and cancelled."""

from datetime import datetime, timedelta
from typing import Annotated

from aiohttp import web
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from services.gateway.api import problem
from services.gateway.api.body import INTEGER, RequestBody
from services.gateway.api.openapi import Operation, Success
from services.gateway.api.problem import KEY_REUSED, TOO_MANY_REQUESTS
from services.gateway.api.request import (
    CLIENT,
    CLIENT_ADDRESS,
    REPEATABLE,
    REPLAYED,
    SUBJECT,
)
from services.gateway.api.response import AskingViews, ResponseBody, respond, unexpected
from services.gateway.clients.idempotency import RequestStamp
from shared import client_address
from shared.contracts import (
    CancelCode,
    CodeCancelled,
    CodeIssued,
    CodeRefused,
    CodeUnchecked,
    CodeVerified,
    CodeWithheld,
    IssueCode,
    VerifyCode,
)
from shared.contracts.clients import Scope
from shared.contracts.codes import CONFIRM_ADDRESS, MAX_DIGITS, MAX_TYPED_CHARS, MIN_DIGITS
from shared.contracts.fields import Address, Locale, Purpose

# The otp service knows a request by its id for 20 hours. Later it would issue another code under
# the old id, which the sender has sent already: nothing would arrive.
CODES_REMEMBERED = timedelta(hours=16)


def _ip_address(value: object) -> client_address.Address:
    """Return an address. A number is none; one with a zone means something to its host alone."""
    found = client_address.parse(value) if isinstance(value, str) and "%" not in value else None
    if found is None:
        raise ValueError("must be an IPv4 or IPv6 address")
    return found


StrictLength = Annotated[int, Field(strict=True, ge=MIN_DIGITS, le=MAX_DIGITS), INTEGER]
_IpAddress = Annotated[client_address.Address, BeforeValidator(_ip_address)]


class NewCode(RequestBody):
    """Asks for a one-time code to be mailed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"email": "ada@mail.example", "purpose": "sign-in", "locale": "de-AT"}]
        }
    )

    email: Address
    purpose: Purpose = Field(CONFIRM_ADDRESS, description="The code is right for nothing else")
    length: StrictLength | None = Field(
        None, description="Digits; the deployment's default if absent"
    )
    locale: Locale | None = Field(None, description="Of the mail: a language tag such as `de-AT`")
    ip: _IpAddress | None = Field(
        None, description="Of the user who wants the code; the caller's own if absent"
    )

    def command(
        self, stamp: RequestStamp, client: str, caller: client_address.Address | None
    ) -> IssueCode:
        """Return the command, unchecked: its fields were checked by the same rules."""
        return IssueCode.model_construct(
            id=stamp.id, client=client, **(self.__dict__ | {"ip": self.ip or caller})
        )


class CodeGuess(RequestBody):
    """Asks whether a code is right; a right one is used up by it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"email": "ada@mail.example", "code": "123 456"}]}
    )

    email: Address
    code: str = Field(
        min_length=1,
        max_length=MAX_TYPED_CHARS,
        repr=False,
        description="Spaces and dashes are dropped",
    )
    purpose: Purpose = CONFIRM_ADDRESS
    # Not the caller's by default: that is a client's own server, one for all its users.
    ip: _IpAddress | None = Field(
        None, description="Of the user who typed the code; wrong ones are limited by it"
    )

    def question(self, stamp: RequestStamp, client: str) -> VerifyCode:
        """Return the question, unchecked: its fields were checked by the same rules."""
        return VerifyCode.model_construct(id=stamp.id, client=client, **self.__dict__)


class CodeSent(ResponseBody):
    """A code is on its way by mail."""

    id: str
    expires_at: datetime
    resend_at: datetime = Field(description="Before that nothing more is mailed")


class Verified(ResponseBody):
    """Whether the code was right. Wrong, used, expired and unknown codes look alike."""

    verified: bool
    id: str | None = Field(None, description="Of the code, as POST /v1/otp returned it")


POST_CODE = Operation(
    "postCode",
    "POST /v1/otp",
    "Mail a one-time code",
    (Success(202, "The mail is on its way", CodeSent),),
    scope=Scope.CODES,
    body=NewCode,
    problems=(KEY_REUSED, TOO_MANY_REQUESTS),
    description="While a code is valid, the same one is mailed again with its old expiry, not "
    "sooner than `resend_at`. A 429 means that nothing was mailed, and reveals nothing about the "
    "address. After a 503 asking again does no harm.",
    repeatable=True,
)
VERIFY_CODE = Operation(
    "verifyCode",
    "POST /v1/otp/verify",
    "Ask whether a code is right",
    (Success(200, "The verdict; a right code is used up by it", Verified),),
    scope=Scope.CODES,
    body=CodeGuess,
    problems=(KEY_REUSED, TOO_MANY_REQUESTS),
    description="A wrong code costs one of the guesses. With an `Idempotency-Key` a lost answer "
    "can be asked for again: it is the same, and costs no further guess. A 429 means that there "
    "were too many wrong codes of the client, or of the address in `ip`: this one was neither "
    "compared nor counted.",
    repeatable=True,
)
DELETE_CODE = Operation(
    "deleteCode",
    "DELETE /v1/otp/{id}",
    "Cancel a code",
    (Success(204, "It is right no more; the same if it never was", media_type=None),),
    scope=Scope.CODES,
)


class CodeViews(AskingViews):
    """Asks the otp service to mail, verify and cancel codes."""

    async def post(self, request: web.Request) -> web.Response:
        """Ask for a code to be mailed; too many codes are a 429."""
        new, content = await self.reader.read(request, NewCode)
        issued = await self.issue(request, new, content)
        return respond(
            202,
            CodeSent(
                id=issued.challenge_id, expires_at=issued.expires_at, resend_at=issued.resend_at
            ),
        )

    async def issue(self, request: web.Request, new: NewCode, content: bytes) -> CodeIssued:
        """Return when a code is on its way. Raises Problem, and Unavailable or NoAnswer."""
        request[REPEATABLE] = True  # the same code would be mailed, not sooner than the cooldown
        stamp = await self._stamp(request, content)
        caller = client_address.parse(request[CLIENT_ADDRESS])
        command = new.command(stamp, request[CLIENT].id, caller)
        match await self.broker.ask(command, self.answer_seconds):
            case CodeIssued() as issued:
                return issued
            case CodeWithheld() as withheld:
                await self.reader.forget_key(request, stamp)
                raise problem.too_many_requests(withheld.retry_after, withheld.reason)
            case other:
                raise unexpected(other)

    async def verify(self, request: web.Request) -> web.Response:
        """Return whether a code is right; too many wrong ones are a 429."""
        guess, content = await self.reader.read(request, CodeGuess)
        stamp = await self._stamp(request, content)
        question = guess.question(stamp, request[CLIENT].id)
        match await self.broker.ask(question, self.answer_seconds):
            case CodeVerified() as verified:
                return respond(200, Verified(verified=True, id=verified.challenge_id))
            case CodeRefused():
                return respond(200, Verified(verified=False))
            case CodeUnchecked() as unchecked:
                await self.reader.forget_key(request, stamp)
                raise problem.too_many_requests(unchecked.retry_after, "failures")
            case other:
                raise unexpected(other)

    async def delete(self, request: web.Request) -> web.Response:
        """Cancel a code; the response is the same for an unknown one."""
        request[SUBJECT] = request.match_info["id"]
        try:
            command = CancelCode(
                id=self.new_id(),
                challenge_id=request.match_info["id"],
                client=request[CLIENT].id,
            )
        except ValidationError:
            return web.Response(status=204)  # no code has such an id
        await self.ask(command, CodeCancelled)
        return web.Response(status=204)

    async def _stamp(self, request: web.Request, content: bytes) -> RequestStamp:
        """Return the stamp of the first request with the key, while the otp service knows it."""
        stamp = await self.reader.stamp(request, content)
        if not request.get(REPLAYED) or self.reader.new_stamp().at - stamp.at < CODES_REMEMBERED:
            return stamp
        await self.reader.forget_key(request, stamp)
        return await self.reader.stamp(request, content)
