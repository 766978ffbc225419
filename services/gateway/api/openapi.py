"""Pure: the OpenAPI 3.1 document, made from the operations and the models they name."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from services.gateway.api import problem
from services.gateway.api.body import RequestBody
from services.gateway.api.problem import ProblemDocument, ProblemType
from services.gateway.clients import idempotency
from services.gateway.feedback.events import PROVIDERS
from shared.contracts import fields
from shared.contracts.clients import Scope

REF = "#/components/schemas/{model}"

Json = dict[str, Any]
_JSON = "application/json"


class Access(StrEnum):
    """The key that an operation asks for."""

    PUBLIC = "public"
    CLIENT = "client"
    ADMIN = "admin"
    ANY = "any"  # a client's, or the administrator's for all clients


@dataclass(frozen=True, slots=True)
class Success:
    """A response that is no problem; without a model it has another media type, or no body."""

    status: int
    description: str
    model: type[BaseModel] | None = None
    media_type: str | None = "application/json"
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """A method and a path such as `GET /v1/stats`, the key that they ask for, their responses.

    An operation of clients names the `scope` that a client needs.
    """

    name: str
    line: str
    summary: str
    responses: tuple[Success, ...]
    access: Access = Access.CLIENT
    scope: Scope | None = None
    body: type[RequestBody] | None = None
    other_types: tuple[str, ...] = ()  # of the body, beside JSON
    other_bodies: tuple[type[RequestBody], ...] = ()
    bare_field: str | None = None  # of the body: its value may also be sent alone
    query: type[BaseModel] | None = None
    problems: tuple[ProblemType, ...] = ()
    description: str | None = None
    waits: bool = False  # reads `Prefer: wait`
    repeatable: bool = False  # reads `Idempotency-Key`

    @property
    def method(self) -> str:
        """The method."""
        return self.line.partition(" ")[0]

    @property
    def path(self) -> str:
        """The path, with its parameters in braces."""
        return self.line.partition(" ")[2]


# By the path's first part, without its version.
_TAGS = {
    "messages": "Mails",
    "stats": "Sums over mails by their outcomes",
    "suppressions": "Addresses that get no mail",
    "content-types": "Templates of newsletters and of single messages",
    "subscriptions": "Newsletters, mailed again and again",
    "tasks": "Mails, codes and subscriptions by one door",
    "otp": "One-time codes",
    "events": "Outcomes of mails that were sent another way",
    "domains": "Evidence on recipient domains",
    "feedback": "Webhooks of mail providers",
    "webhooks": "Events, sent to https endpoints of clients",
    "clients": "Programs and their keys; for the administrator",
    "service": "Health, metrics and this document",
}
# Of any length: nothing has an id that is longer than others, and the answer is the same.
_ID: Json = {"type": "string", "minLength": 1}
_PARAMETERS: Mapping[str, Json] = {
    "domain": {
        "description": "A recipient domain; internationalised names in either form",
        "schema": TypeAdapter(fields.Domain).json_schema(),
        "example": "mail.example",
    },
    "email": {
        "description": "A bare address",
        "schema": TypeAdapter(fields.Address).json_schema(),
        "example": "ada@mail.example",
    },
    "id": {"description": "Its id", "schema": _ID, "example": "shop"},
    "name": {"description": "The name of a content type", "schema": _ID, "example": "news"},
    "run": {
        "description": "The id of a run",
        "schema": _ID,
        "example": "20261102T073000Z-19fba0e995b9",
    },
    "provider": {
        "description": "A mail provider that is set up",
        "schema": {"type": "string", "enum": [*PROVIDERS]},
        "example": "postmark",
    },
    "key_id": {"description": "The id of a key", "schema": _ID, "example": "8e03978e"},
}
_HEADERS: Mapping[str, Json] = {
    "Prefer": {
        "description": "`wait=10` waits up to ten seconds for the outcome (RFC 7240)",
        # A preference that is not understood is ignored, however long (RFC 7240 2).
        "schema": {"type": "string"},
        "example": "wait=10",
    },
    idempotency.HEADER: {
        "description": "The same key with the same body is one request, however often it is sent; "
        "for a day (codes: 16 hours), for each client and path",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": idempotency.MAX_KEY_CHARS,
            # Blanks and quotes around a key are not part of it, and something must be left.
            "pattern": "^[ -~]*[!#-~][ -~]*$",
        },
        "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
    },
}
_WITH_RETRY_AFTER = {
    problem.IN_PROGRESS,
    problem.UNAVAILABLE,
    problem.OVERLOADED,
    problem.TOO_MANY_REQUESTS,
    problem.QUOTA_EXCEEDED,
}
_RATE_FIELDS = ["RateLimit-Policy", "RateLimit"]  # where GATEWAY_CLIENT_RATE is set
_BODY_PROBLEMS = (
    problem.MALFORMED,
    problem.TIMEOUT,
    problem.TOO_LARGE,
    problem.UNSUPPORTED_MEDIA_TYPE,
    problem.INVALID,
)


def document(operations: Sequence[Operation]) -> Json:
    """Return the whole document."""
    paths: Json = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Postrider",
            "version": version("postrider"),
            "description": "Mail and one-time codes, with truthful answers.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "Where this document is"}],
        "tags": [{"name": tag, "description": text} for tag, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": _schemas(operations),
            "securitySchemes": {
                "client": _bearer(
                    "A client's key, as POST /v1/clients gives it. The names beside it are the "
                    f"scopes that the client needs: {', '.join(Scope)}"
                ),
                "admin": _bearer("The administrator's token"),
            },
        },
    }


def _operation(operation: Operation) -> Json:
    successes = {str(each.status): _success(each, operation) for each in operation.responses}
    described: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [_tag(operation)],
        "security": _security(operation),
        "responses": successes | _problems(operation),
    }
    if operation.description:
        described["description"] = operation.description
    if parameters := _parameters(operation):
        described["parameters"] = parameters
    if operation.body or operation.other_types:
        described["requestBody"] = {"required": True, "content": _contents(operation)}
    return described


def _security(operation: Operation) -> list[Json]:
    if operation.access is Access.PUBLIC:
        return []
    if operation.access is Access.ANY:
        return [{str(Access.CLIENT): [operation.scope]}, {str(Access.ADMIN): []}]
    return [{str(operation.access): [operation.scope] if operation.scope else []}]


def _tag(operation: Operation) -> str:
    name = operation.path.removeprefix("/v1/").partition("/")[0]
    return name if name in _TAGS else "service"


def _contents(operation: Operation) -> Json:
    # Of JSON without a model nothing is known here.
    others = {
        each: {"schema": {} if each == _JSON else {"type": "string"}}
        for each in operation.other_types
    }
    if operation.body is None:
        return others
    schemas = [_reference(each) for each in (operation.body, *operation.other_bodies)]
    if operation.bare_field:
        schemas.append(_properties(operation.body)[operation.bare_field])
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return {_JSON: {"schema": schema}} | others


def _parameters(operation: Operation) -> list[Json]:
    paths: list[Json] = [
        {"name": name, "in": "path", "required": True, **_PARAMETERS[name]}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    queries = [
        {"name": name, "in": "query", "schema": schema}
        for name, schema in (_properties(operation.query) if operation.query else {}).items()
    ]
    names = ["Prefer"] * operation.waits + [idempotency.HEADER] * operation.repeatable
    return paths + queries + [{"name": name, "in": "header", **_HEADERS[name]} for name in names]


def _success(success: Success, operation: Operation) -> Json:
    described: Json = {"description": success.description}
    headers = [*success.headers, *["Preference-Applied"] * operation.waits]
    headers += ["Idempotent-Replayed"] * operation.repeatable
    headers += _RATE_FIELDS * (operation.scope is not None)
    if headers:
        described["headers"] = {name: {"schema": {"type": "string"}} for name in headers}
    if success.media_type:
        schema = _reference(success.model) if success.model else {}
        described["content"] = {success.media_type: {"schema": schema}}
    return described


def _problems(operation: Operation) -> Json:
    by_status: dict[int, list[ProblemType]] = {}
    for each in dict.fromkeys(_problem_types(operation)):
        by_status.setdefault(each.status, []).append(each)
    return {str(status): _problem(types) for status, types in by_status.items()}


def _problem_types(operation: Operation) -> list[ProblemType]:
    if operation.access is Access.PUBLIC:
        return [problem.HEADERS_TOO_LARGE, *operation.problems]
    return [
        problem.HEADERS_TOO_LARGE,
        problem.UNAUTHORIZED,
        *((problem.QUOTA_EXCEEDED,) if operation.access is not Access.ADMIN else ()),
        *((problem.INSUFFICIENT_SCOPE,) if operation.scope else ()),
        *(_BODY_PROBLEMS if operation.body else ()),
        *((problem.MALFORMED,) if operation.repeatable else ()),
        *((problem.INVALID,) if _is_checked(operation) else ()),
        *operation.problems,
        problem.INTERNAL,
        problem.UNAVAILABLE,
        problem.OVERLOADED,
    ]


def _is_checked(operation: Operation) -> bool:
    """Return whether a part of the path, or the query, has a form."""
    return any(each in operation.path for each in ("{domain}", "{email}")) or bool(operation.query)


def _problem(types: Sequence[ProblemType]) -> Json:
    described: Json = {
        "description": "; ".join(f"{each.title} (`{each.code}`)" for each in types),
        "content": {problem.CONTENT_TYPE: {"schema": _reference(ProblemDocument)}},
    }
    if not _WITH_RETRY_AFTER.isdisjoint(types):
        described["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    if problem.QUOTA_EXCEEDED in types:
        described["headers"] |= {name: {"schema": {"type": "string"}} for name in _RATE_FIELDS}
    return described


def _schemas(operations: Sequence[Operation]) -> Json:
    responses = [each.model for operation in operations for each in operation.responses]
    modes: dict[type[BaseModel] | None, JsonSchemaMode] = {
        **dict.fromkeys((operation.body for operation in operations), "validation"),
        **dict.fromkeys((each for one in operations for each in one.other_bodies), "validation"),
        **dict.fromkeys((operation.query for operation in operations), "validation"),
        **dict.fromkeys((*responses, ProblemDocument), "serialization"),
    }
    named = [(model, mode) for model, mode in modes.items() if model is not None]
    _, schemas = models_json_schema(named, ref_template=REF)
    definitions: Json = schemas["$defs"]
    return definitions


def _properties(model: type[BaseModel]) -> Json:
    properties: Json = model.model_json_schema(ref_template=REF)["properties"]
    return properties


def _reference(model: type[BaseModel]) -> Json:
    return {"$ref": REF.format(model=model.__name__)}


def _bearer(description: str) -> Json:
    return {"type": "http", "scheme": "bearer", "description": description}
