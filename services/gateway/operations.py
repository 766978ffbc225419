"""Pure: what can be asked of the gateway, as data; the app and its OpenAPI document share it."""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel

from services.gateway.answers import Accepted, ClientKey, Domain, Finished, Health, Verified
from services.gateway.problem import CLIENT_EXISTS, NO_SUCH_CLIENT, Kind
from services.gateway.schemas import Body, CodeGuess, NewClient, NewCode, NewMessage


class Access(StrEnum):
    """Whose key an operation asks for."""

    PUBLIC = "public"
    CLIENT = "client"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Success:
    """One answer that is no problem; without a model it is of another media type, or empty."""

    status: int
    description: str
    model: type[BaseModel] | None = None
    media_type: str | None = "application/json"
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """A method and a path, who may use them, what goes in and what comes out."""

    name: str
    method: str
    path: str
    summary: str
    access: Access
    answers: tuple[Success, ...]
    body: type[Body] | None = None
    problems: tuple[Kind, ...] = ()
    description: str | None = None
    waits: bool = False  # takes `Prefer: wait`


_KEPT = Success(202, "It is kept by the broker", Accepted)
_HEALTHY = Success(200, "It works", Health)

POST_MESSAGE = Operation(
    "postMessage",
    "POST",
    "/v1/messages",
    "Send a message",
    Access.CLIENT,
    (
        Success(202, "It is kept by the broker", Accepted, headers=("Location",)),
        Success(200, "With `Prefer: wait`: every recipient has its outcome", Finished),
    ),
    body=NewMessage,
    description="The 202 comes after the broker has confirmed that it keeps the message. After a "
    "503 it may be kept nevertheless, so that sending it again may deliver it twice.",
    waits=True,
)
POST_CODE = Operation(
    "postCode",
    "POST",
    "/v1/otp",
    "Mail a one-time code",
    Access.CLIENT,
    (_KEPT,),
    body=NewCode,
)
VERIFY_CODE = Operation(
    "verifyCode",
    "POST",
    "/v1/otp/verify",
    "Ask whether a code is right",
    Access.CLIENT,
    (Success(200, "The verdict; a right code is used up by it", Verified),),
    body=CodeGuess,
)
PUT_DELIVERED = Operation(
    "putDelivered",
    "PUT",
    "/v1/events/{domain}/delivered",
    "Tell that a mail to a domain was delivered",
    Access.CLIENT,
    (_KEPT,),
)
PUT_BOUNCED = Operation(
    "putBounced",
    "PUT",
    "/v1/events/{domain}/bounced",
    "Tell that a mail to a domain bounced: no such mailbox",
    Access.CLIENT,
    (_KEPT,),
)
GET_DOMAIN = Operation(
    "getDomain",
    "GET",
    "/v1/domains/{domain}",
    "Ask whether a domain takes mail for any address",
    Access.CLIENT,
    (Success(200, "What is known; a domain never seen is unknown", Domain),),
)
POST_CLIENT = Operation(
    "postClient",
    "POST",
    "/v1/clients",
    "Register a client",
    Access.ADMIN,
    (Success(201, "Its key, told this once", ClientKey, headers=("Location",)),),
    body=NewClient,
    problems=(CLIENT_EXISTS,),
)
DELETE_CLIENT = Operation(
    "deleteClient",
    "DELETE",
    "/v1/clients/{id}",
    "Revoke a client's key at once",
    Access.ADMIN,
    (Success(204, "It is revoked", media_type=None),),
    problems=(NO_SUCH_CLIENT,),
)
GET_DOCUMENT = Operation(
    "getDocument",
    "GET",
    "/v1/openapi.json",
    "Get this document",
    Access.PUBLIC,
    (Success(200, "OpenAPI 3.1"),),
)
PING = Operation(
    "ping",
    "GET",
    "/ping",
    "Get an answer with the least possible work",
    Access.PUBLIC,
    (Success(200, "pong", media_type="text/plain"),),
)
HEALTH = (
    Operation("live", "GET", "/healthz", "Is it alive?", Access.PUBLIC, (_HEALTHY,)),
    Operation(
        "ready",
        "GET",
        "/readyz",
        "Can it work?",
        Access.PUBLIC,
        (_HEALTHY, Success(503, "Something it needs is away", Health)),
    ),
    Operation(
        "metrics",
        "GET",
        "/metrics",
        "Get the counters in Prometheus' format",
        Access.PUBLIC,
        (Success(200, "The counters", media_type="text/plain"),),
    ),
)

OPERATIONS = (
    POST_MESSAGE,
    POST_CODE,
    VERIFY_CODE,
    PUT_DELIVERED,
    PUT_BOUNCED,
    GET_DOMAIN,
    POST_CLIENT,
    DELETE_CLIENT,
    GET_DOCUMENT,
    PING,
    *HEALTH,
)
