"""Pure: what can be asked of the gateway, as data; the app and its OpenAPI document share it."""

from services.gateway.api.answers import (
    Accepted,
    ClientKey,
    CodeSent,
    Domain,
    DomainCounts,
    Domains,
    EventsAnswer,
    Finished,
    Health,
    Verified,
)
from services.gateway.api.domains import Page
from services.gateway.api.operation import Access, Operation, Success
from services.gateway.api.problem import (
    CLIENT_EXISTS,
    FOREIGN_SENDER,
    KEY_REUSED,
    NO_SUCH_CLIENT,
)
from services.gateway.api.reports import NDJSON, NewEvents
from services.gateway.api.schemas import CodeGuess, NewClient, NewCode, NewMessage

_KEPT = Success(202, "It is kept by the broker", Accepted)
_ONCE = "With an `Idempotency-Key` it counts once, however often it is told."
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
    problems=(FOREIGN_SENDER, KEY_REUSED),
    description="The 202 comes after the broker has confirmed that it keeps the message. After a "
    "503 it may be kept nevertheless: sent again with the same `Idempotency-Key` it is one mail, "
    "without one it may be two.",
    waits=True,
    repeatable=True,
)
POST_CODE = Operation(
    "postCode",
    "POST",
    "/v1/otp",
    "Mail a one-time code",
    Access.CLIENT,
    (Success(202, "The mail is on its way", CodeSent),),
    body=NewCode,
    problems=(KEY_REUSED,),
    description="While a code is good, the same one is mailed again with its old expiry, not "
    "sooner than `resend_at`. A 429 means that nothing was mailed and tells nothing of the "
    "address. After a 503 asking again does no harm.",
    repeatable=True,
)
DELETE_CODE = Operation(
    "deleteCode",
    "DELETE",
    "/v1/otp/{id}",
    "Have a code be right no more",
    Access.CLIENT,
    (Success(204, "It is right no more; the same if it never was", media_type=None),),
)
VERIFY_CODE = Operation(
    "verifyCode",
    "POST",
    "/v1/otp/verify",
    "Ask whether a code is right",
    Access.CLIENT,
    (Success(200, "The verdict; a right code is used up by it", Verified),),
    body=CodeGuess,
    problems=(KEY_REUSED,),
    description="A wrong code costs one of the guesses. With an `Idempotency-Key` a lost answer "
    "can be asked for again: it is the same, and costs nothing more. A 429 means that the client, "
    "or the address in `ip`, had too many wrong ones: nothing was compared or counted, and nothing "
    "is told of this one.",
    repeatable=True,
)
PUT_DELIVERED = Operation(
    "putDelivered",
    "PUT",
    "/v1/events/{domain}/delivered",
    "Tell that a mail to a domain was delivered",
    Access.CLIENT,
    (_KEPT,),
    description=_ONCE,
    repeatable=True,
)
PUT_BOUNCED = Operation(
    "putBounced",
    "PUT",
    "/v1/events/{domain}/bounced",
    "Tell that a mail to a domain bounced: no such mailbox",
    Access.CLIENT,
    (_KEPT,),
    description=_ONCE,
    repeatable=True,
)
POST_EVENTS = Operation(
    "postEvents",
    "POST",
    "/v1/events",
    "Tell what became of up to a thousand mails",
    Access.CLIENT,
    (
        Success(202, "All events are kept by the broker", EventsAnswer),
        Success(207, "Those are kept that have no mistakes", EventsAnswer),
    ),
    body=NewEvents,
    other_types=(NDJSON,),
    bare_field="events",
    problems=(KEY_REUSED,),
    description="Each event is answered, in the order of the request. An event with an `id` counts "
    "once, however often it is told; so does the whole request with an `Idempotency-Key`.",
    repeatable=True,
)
LIST_DOMAINS = Operation(
    "listDomains",
    "GET",
    "/v1/domains",
    "Ask which domains are known",
    Access.CLIENT,
    (Success(200, "A page of them, by name", Domains),),
    query=Page,
)
COUNT_DOMAINS = Operation(
    "countDomains",
    "GET",
    "/v1/domains/stats",
    "Ask how many domains and events are known",
    Access.CLIENT,
    (Success(200, "Their numbers", DomainCounts),),
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
    DELETE_CODE,
    PUT_DELIVERED,
    PUT_BOUNCED,
    POST_EVENTS,
    LIST_DOMAINS,
    COUNT_DOMAINS,
    GET_DOMAIN,
    POST_CLIENT,
    DELETE_CLIENT,
    GET_DOCUMENT,
    PING,
    *HEALTH,
)
