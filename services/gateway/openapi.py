"""Pure: the OpenAPI 3.1 document, made from the operations and the schemas they name."""

import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from services.gateway import problem
from services.gateway.operations import OPERATIONS, Access, Operation, Success
from services.gateway.problem import Kind, ProblemDocument

VERSION = "1.0.0"  # of the interface, not of the program
REF = "#/components/schemas/{model}"

Json = dict[str, Any]

_PARAMETERS = {
    "domain": "A recipient domain; internationalised names in either form",
    "id": "The client's id",
}
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
            "version": VERSION,
            "description": "Mail and one-time codes, with truthful answers.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
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
            "content": {"application/json": {"schema": _reference(operation.body)}},
        }
    return described


def _parameters(operation: Operation) -> list[Json]:
    parameters: list[Json] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PARAMETERS[name],
            "schema": {"type": "string", "minLength": 1},
        }
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    if operation.waits:
        parameters.append(
            {
                "name": "Prefer",
                "in": "header",
                "required": False,
                "description": "`wait=10` waits up to ten seconds for the outcome (RFC 7240)",
                "schema": {"type": "string"},
                "example": "wait=10",
            }
        )
    return parameters


def _success(answer: Success, operation: Operation) -> Json:
    described: Json = {"description": answer.description}
    headers = [*answer.headers, *(["Preference-Applied"] if operation.waits else [])]
    if headers:
        described["headers"] = {name: {"schema": {"type": "string"}} for name in headers}
    if answer.media_type:
        schema = _reference(answer.model) if answer.model else {}
        described["content"] = {answer.media_type: {"schema": schema}}
    return described


def _problems(operation: Operation) -> Json:
    return {str(kind.status): _problem(kind) for kind in _kinds(operation)}


def _kinds(operation: Operation) -> list[Kind]:
    if operation.access is Access.PUBLIC:
        return []
    return [
        problem.UNAUTHORIZED,
        *(_WITH_BODY if operation.body else ()),
        *((problem.INVALID,) if "{domain}" in operation.path else ()),
        *operation.problems,
        *_ANYWHERE,
    ]


def _problem(kind: Kind) -> Json:
    described: Json = {
        "description": f"{kind.title} (`{kind.code}`)",
        "content": {problem.CONTENT_TYPE: {"schema": _reference(ProblemDocument)}},
    }
    if kind is problem.UNAVAILABLE:
        described["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return described


def _schemas() -> Json:
    answers = [each.model for operation in OPERATIONS for each in operation.answers]
    modes: dict[type[BaseModel] | None, JsonSchemaMode] = {
        **dict.fromkeys((operation.body for operation in OPERATIONS), "validation"),
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
