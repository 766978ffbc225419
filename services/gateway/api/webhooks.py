"""Webhooks: the https endpoints of clients, to which events are sent."""

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Annotated, Any, Self

from aiohttp import web
from pydantic import AfterValidator, ConfigDict, Field

from services.gateway.api.body import RequestBody, StrictModel, read_query
from services.gateway.api.openapi import Access, Operation, Success
from services.gateway.api.problem import (
    NO_SUCH_WEBHOOK,
    TOO_MANY_SECRETS,
    TOO_MANY_WEBHOOKS,
    Problem,
    invalid,
    unauthorized,
)
from services.gateway.api.request import CLIENT, REPEATABLE, SUBJECT, client_of
from services.gateway.api.response import AskingViews, ResponseBody, respond
from shared.contracts import (
    WEBHOOK_CONTRACTS,
    Category,
    ChangeWebhook,
    CreateWebhook,
    DeleteWebhook,
    DescribeWebhook,
    DisabledFor,
    ListWebhooks,
    RotateWebhookSecret,
    Webhook,
    WebhookAnswered,
    WebhookResult,
    WebhooksListed,
)
from shared.contracts.clients import Scope
from shared.contracts.fields import ID, NOT_EMPTY, Id, LineText
from shared.contracts.webhooks import (
    MAX_LISTED_WEBHOOKS,
    MAX_OLD_SECRET_SECONDS,
    EventTypes,
    FilterCategories,
    FilterTags,
    WebhookUrl,
)

_ID = re.compile(ID)
_DAY_SECONDS = 86_400
_NOUNS = {key.partition(".")[0] for each in WEBHOOK_CONTRACTS for key in each.keys}
EVENT_TYPES = (
    *sorted(key for each in WEBHOOK_CONTRACTS for key in each.keys),
    *sorted(f"{noun}.*" for noun in _NOUNS),
)


def _check_types(types: Collection[str] | None) -> Collection[str] | None:
    if types is not None and not {*types} <= {*EVENT_TYPES}:
        raise ValueError("must be types of events, such as email.bounced or email.*")
    return types


_Events = Annotated[
    EventTypes,
    NOT_EMPTY,
    AfterValidator(_check_types),
    Field(
        json_schema_extra={"minItems": 1, "items": {"type": "string", "enum": [*EVENT_TYPES]}},
        description="Types of events, or all of a kind, as email.*",
    ),
]


class WebhookFields(RequestBody):
    """The fields of an endpoint that its owner sets."""

    url: WebhookUrl = Field("", description="https, public, without user and fragment")
    events: _Events = ()
    categories: FilterCategories = Field(
        (), description="Events of mails of these classes alone; of all if empty"
    )
    tags: FilterTags = Field(
        (), description="Events of mails with one of these tags, `name` or `name:value`"
    )
    description: LineText = ""


class WebhookChange(WebhookFields):
    """Changes an endpoint: an absent field stays as it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": True}]})

    enabled: bool = Field(default=True, strict=True, description="Whether events are sent to it")


class NewWebhook(WebhookFields):
    """Asks for an endpoint to be added."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "url": "https://shop.example/hooks",
                    "events": ["email.delivered", "email.bounced"],
                    "categories": ["transactional"],
                }
            ]
        }
    )

    url: WebhookUrl = Field(description="https, public, without user and fragment")
    events: _Events


class SecretRotation(RequestBody):
    """Asks for a new secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"old_seconds": _DAY_SECONDS}]})

    old_seconds: float = Field(
        _DAY_SECONDS,
        ge=0,
        le=MAX_OLD_SECRET_SECONDS,
        allow_inf_nan=False,
        strict=True,  # else false would be 0
        description="For so long requests are signed with the secret before, too",
    )


class WebhookQuery(StrictModel):
    """The query for a page of endpoints."""

    after: Id | None = Field(None, description="`next` of the page before")
    limit: int = Field(MAX_LISTED_WEBHOOKS, ge=1, le=MAX_LISTED_WEBHOOKS)


class WebhookBody(ResponseBody):
    """An endpoint, without its secrets."""

    id: str
    client: str | None = Field(None, description="Absent for the administrator's, of all clients")
    url: str
    events: list[str]
    categories: list[Category]
    tags: list[str]
    description: str
    enabled: bool
    created_at: datetime
    changed_at: datetime
    disabled_at: datetime | None = None
    disabled_for: DisabledFor | None = Field(
        None,
        description="owner: by a request; gone: it answered 410; failing: for three days",
    )
    failing_since: datetime | None = Field(
        None, description="Its first failure after its last success"
    )
    failures: int = Field(description="Since its last success")
    old_secret_until: datetime | None = Field(
        None, description="Until then requests are signed with the secret before, too"
    )

    @classmethod
    def of(cls, found: Webhook, **more: object) -> Self:
        """Return the body of an endpoint."""
        fields = {**found.__dict__, "id": found.webhook_id, "enabled": found.disabled_at is None}
        fields |= {name: [*fields[name]] for name in ("events", "categories", "tags")} | more
        return cls.model_validate({name: fields[name] for name in cls.model_fields})


class WebhookWithSecret(WebhookBody):
    """An endpoint with its new secret, which no later response repeats."""

    secret: str = Field(description="For any library of Standard Webhooks")


class WebhookPage(ResponseBody):
    """A page of endpoints, by id."""

    webhooks: list[WebhookBody]
    next: str | None = Field(None, description="`after` of the next page; absent at the last one")


POST_WEBHOOK = Operation(
    "postWebhook",
    "POST /v1/webhooks",
    "Add an endpoint that gets events",
    (
        Success(
            201,
            "It is kept; no later response repeats the secret",
            WebhookWithSecret,
            headers=("Location",),
        ),
    ),
    Access.ANY,
    Scope.WEBHOOKS,
    body=NewWebhook,
    problems=(TOO_MANY_WEBHOOKS,),
    description="An endpoint of the administrator gets the events of all clients.",
)
LIST_WEBHOOKS = Operation(
    "listWebhooks",
    "GET /v1/webhooks",
    "List endpoints",
    (Success(200, "A page of them", WebhookPage),),
    Access.ANY,
    Scope.WEBHOOKS,
    query=WebhookQuery,
)
GET_WEBHOOK = Operation(
    "getWebhook",
    "GET /v1/webhooks/{id}",
    "Read an endpoint",
    (Success(200, "The endpoint", WebhookBody),),
    Access.ANY,
    Scope.WEBHOOKS,
    problems=(NO_SUCH_WEBHOOK,),
)
PATCH_WEBHOOK = Operation(
    "patchWebhook",
    "PATCH /v1/webhooks/{id}",
    "Change an endpoint, disable it, or enable it again",
    (Success(200, "The endpoint as it is now", WebhookBody),),
    Access.ANY,
    Scope.WEBHOOKS,
    body=WebhookChange,
    problems=(NO_SUCH_WEBHOOK,),
    description="Enabled again, it begins without failures. What it missed is kept, and sent by a "
    "replay.",
)
DELETE_WEBHOOK = Operation(
    "deleteWebhook",
    "DELETE /v1/webhooks/{id}",
    "Delete an endpoint",
    (Success(204, "There is none", media_type=None),),
    Access.ANY,
    Scope.WEBHOOKS,
    problems=(NO_SUCH_WEBHOOK,),
)
ROTATE_SECRET = Operation(
    "rotateWebhookSecret",
    "POST /v1/webhooks/{id}/secret",
    "Make a new secret of an endpoint",
    (Success(200, "No later response repeats the secret", WebhookWithSecret),),
    Access.ANY,
    Scope.WEBHOOKS,
    body=SecretRotation,
    problems=(NO_SUCH_WEBHOOK, TOO_MANY_SECRETS),
    description="An endpoint has two secrets at most. While it has two, only `old_seconds: 0` is "
    "accepted, which replaces both.",
)


class WebhookViews(AskingViews):
    """Asks the webhooks service about endpoints."""

    async def post(self, request: web.Request) -> web.Response:
        """Add an endpoint."""
        new, _ = await self.reader.read(request, NewWebhook)
        question = CreateWebhook.model_construct(
            id=self.new_id(),
            client=client_of(request),
            registered_at=request[CLIENT].registered_at,
            **new.model_dump(),
        )
        answer = await self.ask(question, WebhookAnswered)
        if answer.result is WebhookResult.TOO_MANY:
            raise Problem(TOO_MANY_WEBHOOKS)
        if answer.result is WebhookResult.NO_CLIENT:
            raise unauthorized("ClientRemoved")
        location = f"/v1/webhooks/{question.id}"
        return _with_secret(answer, 201, {"Location": location})

    async def list(self, request: web.Request) -> web.Response:
        """Return a page of endpoints."""
        query = read_query(WebhookQuery, request.query)
        question = ListWebhooks(id=self.new_id(), client=client_of(request), **query.model_dump())
        page = await self.ask(question, WebhooksListed)
        found = [*map(WebhookBody.of, page.webhooks)]
        return respond(200, WebhookPage(webhooks=found, next=page.next))

    async def get(self, request: web.Request) -> web.Response:
        """Return an endpoint."""
        answer = await self.ask(DescribeWebhook(**self.key(request)), WebhookAnswered)
        return respond(200, WebhookBody.of(_found(answer)))

    async def patch(self, request: web.Request) -> web.Response:
        """Change an endpoint."""
        request[REPEATABLE] = True
        change, _ = await self.reader.read(request, WebhookChange)
        fields = change.model_dump(exclude_unset=True)
        question = ChangeWebhook.model_construct(**self.key(request), **fields)
        answer = await self.ask(question, WebhookAnswered)
        return respond(200, WebhookBody.of(_found(answer)))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete an endpoint."""
        answer = await self.ask(DeleteWebhook(**self.key(request)), WebhookAnswered)
        if answer.result is WebhookResult.UNKNOWN:
            raise Problem(NO_SUCH_WEBHOOK)
        return web.Response(status=204)

    async def rotate(self, request: web.Request) -> web.Response:
        """Make a new secret."""
        asked, _ = await self.reader.read(request, SecretRotation)
        question = RotateWebhookSecret(**self.key(request), old_seconds=asked.old_seconds)
        answer = await self.ask(question, WebhookAnswered)
        if answer.result is WebhookResult.TOO_MANY_SECRETS:
            raise Problem(TOO_MANY_SECRETS)
        return _with_secret(answer, 200)

    def key(self, request: web.Request) -> dict[str, Any]:
        """Return the fields of a question that names an endpoint. Raises Problem."""
        identifier = request.match_info["id"]
        if not _ID.fullmatch(identifier):
            raise Problem(NO_SUCH_WEBHOOK)
        request[SUBJECT] = identifier
        return {"id": self.new_id(), "client": client_of(request), "webhook_id": identifier}


def _found(answer: WebhookAnswered) -> Webhook:
    if answer.result is WebhookResult.NOT_HTTPS:
        raise invalid("#/url", "must be an https URL")
    if answer.webhook is None:
        raise Problem(NO_SUCH_WEBHOOK)
    return answer.webhook


def _with_secret(
    answer: WebhookAnswered, status: int, headers: Mapping[str, str] | None = None
) -> web.Response:
    body = WebhookWithSecret.of(_found(answer), secret=answer.secret)
    return respond(status, body, {"Cache-Control": "no-store", **(headers or {})})
