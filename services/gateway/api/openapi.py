"""Pure: the OpenAPI 3.1 document, made from the operations and the schemas they name."""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from services.gateway.api import problem
from services.gateway.api.body import RequestBody
from services.gateway.api.operation import Access, Operation, Success
from services.gateway.api.operations import OPERATIONS
from services.gateway.api.problem import ProblemDocument, ProblemType
from services.gateway.clients import idempotency
from shared.contracts import fields

REF = "#/components/schemas/{model}"

Json = dict[str, Any]

# By the path's first part, less its version.
_TAGS = {
    "messages": "Mails",
    "otp": "One-time codes",
    "events": "What became of mails that went another way",
    "domains": "What is known of recipient domains",
    "clients": "Programs and their keys; for the administrator",
    "service": "Health, metrics and this document",
}
_TEXT: Json = {"type": "string", "minLength": 1, "maxLength": 255}
_PARAMETERS: Mapping[str, Json] = {
    "domain": {
        "description": "A recipient domain; internationalised names in either form",
        "schema": TypeAdapter(fields.Domain).json_schema(),
        "example": "mail.example",
    },
    "id": {"description": "Its id", "schema": _TEXT, "example": "shop"},
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
            "pattern": "^[ -~]+$",
        },
        "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
    },
}
_AGAIN = {problem.UNAVAILABLE, problem.TOO_MANY_REQUESTS}
_ANYWHERE = (problem.INTERNAL, problem.UNAVAILABLE)
_WITH_BODY = (
    problem.MALFORMED,
    problem.TIMEOUT,
    problem.TOO_LARGE,
    problem.UNSUPPORTED_MEDIA_TYPE,
    problem.INVALID,
)


def document() -> Json:
    """Give the whole document."""
    paths: Json = {}
    for operation in OPERATIONS:
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
        "tags": [{"name": tag, "description": told} for tag, told in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "client": _bearer("A client's key, as POST /v1/clients gives it"),
                "admin": _bearer("The administrator's token"),
            },
        },
    }


def _operation(operation: Operation) -> Json:
    answers = {str(each.status): _success(each, operation) for each in operation.answers}
    described: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [_tag(operation)],
        "security": [] if operation.access is Access.PUBLIC else [{str(operation.access): []}],
        "responses": answers | _problems(operation),
    }
    if operation.description:
        described["description"] = operation.description
    if parameters := _parameters(operation):
        described["parameters"] = parameters
    if operation.body:
        described["requestBody"] = {
            "required": True,
            "content": _contents(operation, operation.body),
        }
    return described


def _tag(operation: Operation) -> str:
    name = operation.path.removeprefix("/v1/").partition("/")[0]
    return name if name in _TAGS else "service"


def _contents(operation: Operation, body: type[RequestBody]) -> Json:
    lines = {each: {"schema": {"type": "string"}} for each in operation.other_types}
    schema = _reference(body)
    if operation.bare_field:
        parts = body.model_json_schema(ref_template=REF)["properties"]
        schema = {"anyOf": [schema, parts[operation.bare_field]]}
    return {"application/json": {"schema": schema}} | lines


def _parameters(operation: Operation) -> list[Json]:
    paths: list[Json] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            **_PARAMETERS[name],
        }
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    headers = [{"name": name, "in": "header", **_HEADERS[name]} for name in _taken(operation)]
    return paths + _queries(operation) + headers


def _taken(operation: Operation) -> list[str]:
    return ["Prefer"] * operation.waits + [idempotency.HEADER] * operation.repeatable


def _queries(operation: Operation) -> list[Json]:
    if operation.query is None:
        return []
    properties = operation.query.model_json_schema(ref_template=REF)["properties"]
    return [{"name": name, "in": "query", "schema": each} for name, each in properties.items()]


def _success(answer: Success, operation: Operation) -> Json:
    described: Json = {"description": answer.description}
    headers = [*answer.headers, *["Preference-Applied"] * operation.waits]
    headers += ["Idempotent-Replayed"] * operation.repeatable
    if headers:
        described["headers"] = {name: {"schema": {"type": "string"}} for name in headers}
    if answer.media_type:
        schema = _reference(answer.model) if answer.model else {}
        described["content"] = {answer.media_type: {"schema": schema}}
    return described


def _problems(operation: Operation) -> Json:
    by_status: dict[int, list[ProblemType]] = {}
    for kind in dict.fromkeys(_kinds(operation)):
        by_status.setdefault(kind.status, []).append(kind)
    return {str(status): _problem(kinds) for status, kinds in by_status.items()}


def _kinds(operation: Operation) -> list[ProblemType]:
    if operation.access is Access.PUBLIC:
        return []
    return [
        problem.UNAUTHORIZED,
        *((problem.TOO_MANY_REQUESTS,) if operation.access is Access.CLIENT else ()),
        *(_WITH_BODY if operation.body else ()),
        *((problem.MALFORMED,) if operation.repeatable else ()),
        *((problem.INVALID,) if "{domain}" in operation.path or operation.query else ()),
        *operation.problems,
        *_ANYWHERE,
    ]


def _problem(kinds: Sequence[ProblemType]) -> Json:
    described: Json = {
        "description": "; ".join(f"{kind.title} (`{kind.code}`)" for kind in kinds),
        "content": {problem.CONTENT_TYPE: {"schema": _reference(ProblemDocument)}},
    }
    if not _AGAIN.isdisjoint(kinds):
        described["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return described


def _schemas() -> Json:
    answers = [each.model for operation in OPERATIONS for each in operation.answers]
    modes: dict[type[BaseModel] | None, JsonSchemaMode] = {
        **dict.fromkeys((operation.body for operation in OPERATIONS), "validation"),
        **dict.fromkeys((operation.query for operation in OPERATIONS), "validation"),
        **dict.fromkeys((*answers, ProblemDocument), "serialization"),
    }
    wanted = [(model, mode) for model, mode in modes.items() if model is not None]
    _, schemas = models_json_schema(wanted, ref_template=REF)
    definitions: Json = schemas["$defs"]
    return definitions


def _reference(model: type[BaseModel]) -> Json:
    return {"$ref": REF.format(model=model.__name__)}


def _bearer(description: str) -> Json:
    return {"type": "http", "scheme": "bearer", "description": description}
