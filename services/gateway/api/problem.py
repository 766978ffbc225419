"""Pure: errors as problem documents (RFC 9457), with codes that never change."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import orjson
from pydantic import BaseModel, ConfigDict, Field

CHALLENGE = 'Bearer realm="postrider"'  # of WWW-Authenticate (RFC 6750 3)
CONTENT_TYPE = "application/problem+json"
RETRY_SECONDS = 5.0  # a broker that restarts is back in about twice that


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A type of problem: `code` is for programs and never changes, `title` is for people.

    `registered` is the type's URI in a public registry, for programs that know nothing of ours.
    """

    status: int
    code: str
    title: str
    registered: str | None = None

    @property
    def uri(self) -> str:
        """The URI of the type (RFC 9457 3.1.1)."""
        return self.registered or f"urn:postrider:problem:{self.code}"


MALFORMED = ProblemType(400, "malformed", "The request cannot be read")
UNAUTHORIZED = ProblemType(401, "unauthorized", "A valid key is needed")
FOREIGN_SENDER = ProblemType(403, "foreign-sender", "This client may not send from this address")
INSUFFICIENT_SCOPE = ProblemType(403, "insufficient-scope", "This client has no right to do this")
INVALID_SIGNATURE = ProblemType(
    403, "invalid-signature", "The provider has not signed this request"
)
NOT_FOUND = ProblemType(404, "not-found", "There is nothing here")
NO_SUCH_MESSAGE = ProblemType(404, "no-such-message", "No message of this client has this id")
NO_SUCH_CONTENT_TYPE = ProblemType(
    404, "no-such-content-type", "The client has no content type of this name"
)
NO_SUCH_RUN = ProblemType(404, "no-such-run", "The content type has no run of this id")
NO_SUCH_SUBSCRIPTION = ProblemType(
    404, "no-such-subscription", "The client has no subscription of this id"
)
NO_SUCH_WEBHOOK = ProblemType(404, "no-such-webhook", "The client has no webhook of this id")
NO_SUCH_EVENT = ProblemType(404, "no-such-event", "The webhook has no event of this id")
NOT_SUPPRESSED = ProblemType(404, "not-suppressed", "This address is not suppressed")
NO_SUCH_CLIENT = ProblemType(404, "no-such-client", "No client has this id")
NO_SUCH_KEY = ProblemType(404, "no-such-key", "The client has no key of this id")
METHOD_NOT_ALLOWED = ProblemType(405, "method-not-allowed", "This cannot be done here")
TIMEOUT = ProblemType(408, "timeout", "The request took too long to arrive")
OPTED_OUT = ProblemType(409, "opted-out", "The reader of this address has unsubscribed")
SUPPRESSED = ProblemType(409, "suppressed", "Mail of this list would not be sent to the address")
CONTENT_TYPE_EXISTS = ProblemType(
    409, "content-type-exists", "The client has a content type of this name already"
)
CONTENT_TYPE_IN_USE = ProblemType(
    409, "content-type-in-use", "There are subscriptions to this content type"
)
CONTENT_TYPE_PAUSED = ProblemType(
    409, "content-type-paused", "This content type is paused until it is resumed"
)
CLIENT_EXISTS = ProblemType(409, "client-exists", "A client has this id already")
IN_PROGRESS = ProblemType(
    409, "request-in-progress", "The first request with this Idempotency-Key is under way"
)
TOO_MANY_WEBHOOKS = ProblemType(
    409, "too-many-webhooks", "The client has as many webhooks as it may have"
)
TOO_MANY_SECRETS = ProblemType(
    409, "too-many-secrets", "The webhook has two secrets until the time of the old one is over"
)
WEBHOOK_DISABLED = ProblemType(409, "webhook-disabled", "The webhook is disabled: enable it first")
TOO_MANY_KEYS = ProblemType(409, "too-many-keys", "The client has two keys already")
SHARED_ID = ProblemType(
    409, "shared-id", "Several clients have a message of this id: name one by `client`"
)
TOO_LATE = ProblemType(
    409, "too-late", "Every recipient of this message has ended, none as cancelled"
)
NOT_SCHEDULED = ProblemType(
    409, "not-scheduled", "The message is on its way, or has its final outcome"
)
SUPPRESSED_FOR_ALL = ProblemType(
    409, "suppressed-for-all", "The administrator has suppressed this address for all clients"
)
TOO_LARGE = ProblemType(413, "too-large", "The request is too large")
UNSUPPORTED_MEDIA_TYPE = ProblemType(
    415, "unsupported-media-type", "This type of body is not taken"
)
EXPECTATION_FAILED = ProblemType(417, "expectation-failed", "What is expected cannot be met")
INVALID = ProblemType(422, "invalid", "The request has mistakes")
KEY_REUSED = ProblemType(
    422, "idempotency-key-reused", "The Idempotency-Key stands for a request with another body"
)
TEMPLATE_INVALID = ProblemType(422, "template-invalid", "The template cannot be used")
EXPIRED = ProblemType(422, "expired", "The `expires_at` of the message is over")
TOO_MANY_REQUESTS = ProblemType(429, "too-many-requests", "This was asked for too often")
QUOTA_EXCEEDED = ProblemType(
    429,
    "quota-exceeded",
    "The client has used up its requests for now",
    # draft-ietf-httpapi-ratelimit-headers-11, section 5.1
    "https://iana.org/assignments/http-problem-types#quota-exceeded",
)
HEADERS_TOO_LARGE = ProblemType(431, "headers-too-large", "The headers are too large")
INTERNAL = ProblemType(500, "internal", "Something went wrong here")
UNAVAILABLE = ProblemType(503, "unavailable", "This cannot be done now")
OVERLOADED = ProblemType(
    503,
    "overloaded",
    "Too much is under way here now",
    # draft-ietf-httpapi-ratelimit-headers-10, section 7.3
    "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
)

# The refusals that the HTTP library makes by itself.
_BY_STATUS = {
    each.status: each
    for each in (MALFORMED, NOT_FOUND, METHOD_NOT_ALLOWED, TOO_LARGE, EXPECTATION_FAILED)
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake in a body; its place is a JSON Pointer as a URI fragment (RFC 6901 6)."""

    pointer: str
    detail: str


class Problem(Exception):
    """Ends a request with a problem document; `reason` is for the log alone."""

    def __init__(
        self,
        problem_type: ProblemType,
        detail: str | None = None,
        *,
        errors: Sequence[Mistake] = (),
        headers: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(problem_type.code)
        self.type = problem_type
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}
        self.reason = reason
        self.violated_policies: Sequence[str] = ()  # names in RateLimit-Policy


def invalid(pointer: str, detail: str) -> Problem:
    """Return the problem of a request with one mistake, at a place in its body or query."""
    return Problem(INVALID, errors=[Mistake(pointer, detail)])


def unauthorized(reason: str) -> Problem:
    """Return the problem of a request without a valid key."""
    return Problem(UNAUTHORIZED, headers={"WWW-Authenticate": CHALLENGE}, reason=reason)


def retry_after(seconds: float = RETRY_SECONDS) -> Mapping[str, str]:
    """Return the header with the whole seconds until the next try, at least 1."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def unavailable(reason: str, *, repeatable: bool) -> Problem:
    """Return the problem of a broker, a service or a database that does not answer.

    A `repeatable` request is one that has the same effect twice as once.
    """
    return Problem(
        UNAVAILABLE,
        "It is not known whether this was done. "
        + ("Asking again does no harm." if repeatable else "Try again later."),
        headers=retry_after(),
        reason=reason,
    )


def overloaded(detail: str, reason: str | None = None, seconds: float = RETRY_SECONDS) -> Problem:
    """Return the problem of a request that was refused before anything was done of it."""
    text = f"{detail} Nothing was done; try again."
    return Problem(OVERLOADED, text, headers=retry_after(seconds), reason=reason)


def too_many_requests(seconds: float, reason: str) -> Problem:
    """Return the problem of too many requests, with the seconds until the next one."""
    return Problem(TOO_MANY_REQUESTS, headers=retry_after(seconds), reason=reason)


def quota_exceeded(seconds: float, policy: str, fields: Mapping[str, str]) -> Problem:
    """Return the problem of a quota that is used up for some seconds, with its header fields."""
    refusal = Problem(QUOTA_EXCEEDED, headers={**retry_after(seconds), **fields}, reason="quota")
    refusal.violated_policies = [policy]
    return refusal


def type_of(status: int) -> ProblemType:
    """Return the type for an HTTP status that the HTTP library answers with."""
    known = _BY_STATUS.get(status)
    if known is not None:
        return known
    phrase = HTTPStatus(status).phrase
    return ProblemType(status, phrase.lower().replace(" ", "-"), phrase)


class ProblemDocument(BaseModel):
    """Describes an error (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    class Error(BaseModel):
        """A mistake in the body."""

        model_config = ConfigDict(extra="forbid")

        pointer: str = Field(description="Where: a JSON Pointer such as #/to/0")
        detail: str

    type: str = Field(description="A URN that ends in the code, or a registered URI")
    title: str
    status: int
    code: str = Field(description="For programs: it never changes its meaning")
    instance: str = Field(description="The path of the request")
    request_id: str = Field(description="The id of the request in the logs")
    detail: str | None = Field(None, description="More details for people")
    errors: list[Error] | None = Field(None, description="The mistakes, the first 20 of them")
    violated_policies: list[str] | None = Field(
        None, alias="violated-policies", description="Names in RateLimit-Policy of used up quotas"
    )


def document(problem: Problem, instance: str, request_id: str) -> bytes:
    """Return the JSON of a problem and a line end; absent fields are left out."""
    kind = problem.type
    fields: dict[str, object] = {
        "type": kind.uri,
        "title": kind.title,
        "status": kind.status,
        "code": kind.code,
        "instance": instance,
        "request_id": request_id,
    }
    if problem.detail:
        fields["detail"] = problem.detail
    if problem.errors:
        fields["errors"] = problem.errors
    if problem.violated_policies:
        fields["violated-policies"] = problem.violated_policies
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
