"""The OpenAPI document beside the app that it describes."""

import asyncio
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from pydantic import BaseModel, ValidationError
from yarl import URL

from services.gateway import service
from services.gateway.api import body as bodies
from services.gateway.api import openapi
from services.gateway.api.batch_items import BatchRecipient, NewTemplate
from services.gateway.api.events import NewEvent
from services.gateway.api.links import CONFIRM_PATH, UNSUBSCRIBE_PATH
from services.gateway.api.messages import BatchMessage, NewAttachment
from services.gateway.api.openapi import Access
from services.gateway.api.problem import Problem
from services.gateway.api.suppressions import AddressChange
from services.gateway.app import OPERATIONS, docs_routes
from shared.broker import Broker
from shared.contracts import NewSuppression
from shared.contracts.message import Question
from shared.rabbitmq import Connection
from shared.storage.database import Database
from shared.storage.postgres import PostgresDatabase
from tests.gateway.api_client import ApiClient, settings

PUBLIC = {"/ping", "/healthz", "/readyz", "/metrics", "/v1/openapi.json", "/v1/feedback/{provider}"}
PART = re.compile(r"\{\w+\}")
NULS = ("a\0b", ["a\0b"], {"a": "a\0b"}, {"a\0b": "a"})
# The bodies and queries of requests, and what the gateway asks the services.
MODELS = [
    *filter(None, (model for each in OPERATIONS for model in (each.body, each.query))),
    *(AddressChange, NewAttachment, NewEvent, BatchMessage, NewTemplate, BatchRecipient),
    *(NewSuppression, *Question.__subclasses__()),
]
MAY_HAVE_NUL = {
    ("BatchRecipient", "variables"),  # the mail that they are rendered to is checked
    # JSON, where a NUL is six characters; and no template may have one
    *((name, "variables") for name in ("ContentVariables", "NewSubscription")),
    *((name, "variables") for name in ("RenderContent", "Subscribe")),
    *(("CodeGuess", "code"), ("VerifyCode", "code")),  # hashed, and never kept
}


def test_every_route_is_in_the_document_and_nothing_else(tmp_path: Path) -> None:
    """The app has exactly the routes of the document, and pages for people beside it."""
    publishing, consuming = (Connection([URL()], name, 10) for name in ("publish", "consume"))
    broker = Broker("gateway", publishing, consuming)
    database = Database(PostgresDatabase("postgresql+asyncpg://", "gateway"))
    given = settings("amqp://nowhere", tmp_path)
    stores = service.Stores.of(database, 1.0)
    app = service.application(given, broker, database, stores, asyncio.Event())

    routes = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource and route.method != "HEAD"
    } - {("GET", route.path) for route in docs_routes()}
    routes -= {
        (method, path) for method in ("GET", "POST") for path in (CONFIRM_PATH, UNSUBSCRIBE_PATH)
    }
    described = {
        (method.upper(), path)
        for path, methods in openapi.document(OPERATIONS)["paths"].items()
        for method in methods
    }
    assert routes == described


def test_every_operation_has_its_security() -> None:
    """Only the public paths have no security."""
    paths = openapi.document(OPERATIONS)["paths"]

    open_paths = {
        path for path, methods in paths.items() for each in methods.values() if not each["security"]
    }
    assert open_paths == PUBLIC


def test_every_operation_of_clients_names_its_scope() -> None:
    """Each operation of clients asks for one scope, and describes the 403 of a client without it.

    No other operation asks for a scope.
    """
    paths = openapi.document(OPERATIONS)["paths"]

    for operation in OPERATIONS:
        described = paths[operation.path][operation.method.lower()]
        of_clients = operation.access in {Access.CLIENT, Access.ANY}
        assert (operation.scope is not None) == of_clients, operation.name
        if operation.scope:
            assert described["security"][0] == {"client": [operation.scope]}
            assert ({"admin": []} in described["security"]) == (operation.access is Access.ANY)
            assert "insufficient-scope" in described["responses"]["403"]["description"]


def test_bodies_take_known_fields_only() -> None:
    """A request's schema forbids unknown fields."""
    schemas = openapi.document(OPERATIONS)["components"]["schemas"]

    for operation in OPERATIONS:
        if operation.body:
            assert schemas[operation.body.__name__]["additionalProperties"] is False


def test_each_text_and_list_of_a_request_has_its_limits() -> None:
    """Each text, list and number of a request has limits in the schema (issue 10, H5)."""
    schemas = openapi.document(OPERATIONS)["components"]["schemas"]
    names = {each.body.__name__ for each in OPERATIONS if each.body} | {
        *("NewAttachment", "NewCalendar", "NewEvent", "NewTag")
    }

    for name in names:
        for field, schema in schemas[name]["properties"].items():
            for each in schema.get("anyOf", [schema]):
                kind = each.get("type")
                limited = kind != "string" or {"maxLength", "format", "enum", "const"} & each.keys()
                assert limited, (name, field)
                assert kind != "array" or "maxItems" in each, (name, field)
                assert kind != "integer" or {"minimum", "maximum"} <= each.keys(), (name, field)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("NewMessage", {"to": []}),
        ("NewMessage", {"to": "nobody"}),
        ("NewMessage", {"to": ["ann@x.example"] * 101}),
        ("NewMessage", {"from": "a" * 701 + "@x.example"}),
        ("NewMessage", {"subject": "Hi\r\nBcc: b@x.example"}),
        ("NewMessage", {"subject": "x" * 901}),
        ("NewMessage", {"text": None}),
        ("NewMessage", {"text": "a\x00b"}),
        ("NewMessage", {"attachments": [{"filename": "../a", "content": ""}]}),
        ("NewMessage", {"attachments": [{"filename": "a", "content": "?"}]}),
        ("NewMessage", {"attachments": [{"filename": "a", "content": "", "content_type": "x"}]}),
        ("NewCode", {"email": "nobody"}),
        ("NewCode", {"email": ""}),
        ("NewCode", {"length": 9}),
        ("NewCode", {"locale": "english!"}),
        ("CodeGuess", {"code": ""}),
        ("CodeGuess", {"email": "a@x.example" + "x" * 700}),
        ("SuppressionChange", {"categories": []}),
        ("SuppressionChange", {"origin": "bounce"}),
        ("SuppressionChange", {"reason": "x" * 201}),
        ("SuppressionBatch", {"add": ["nobody"]}),
        ("SuppressionBatch", {"remove": "bob@mail.example"}),
        ("NewClient", {"senders": ["shop"]}),
        ("NewClient", {"id": "Shop"}),
    ],
)
def test_the_schema_refuses_what_the_gateway_refuses(name: str, wrong: dict[str, Any]) -> None:
    """Schema and gateway accept the example, and both refuse the wrong value."""
    [model] = (each.body for each in OPERATIONS if each.body and each.body.__name__ == name)
    schemas = openapi.document(OPERATIONS)["components"]
    schema = {"$ref": f"#/components/schemas/{name}", "components": schemas}
    validator = jsonschema_rs.Draft202012Validator(schema)
    [example] = schemas["schemas"][name]["examples"]

    assert validator.is_valid(example)
    bodies.read(model, json.dumps(example).encode())
    assert not validator.is_valid(example | wrong)
    with pytest.raises(Problem):
        bodies.read(model, json.dumps(example | wrong).encode())


def test_the_document_is_of_this_program() -> None:
    """The document has the program's version, and each operation a described tag."""
    document = openapi.document(OPERATIONS)

    assert document["info"]["version"] == version("postrider")
    tags = {tag["name"] for tag in document["tags"]}
    for methods in document["paths"].values():
        for each in methods.values():
            assert len(each["tags"]) == 1
            assert set(each["tags"]) <= tags


def test_every_refusal_is_described_as_a_problem() -> None:
    """Each operation with a key describes 401, 500 and 503 as problem documents."""
    for methods in openapi.document(OPERATIONS)["paths"].values():
        for each in methods.values():
            errors = {
                code: response for code, response in each["responses"].items() if code >= "400"
            }
            if each["security"]:
                assert {"401", "500", "503"} <= set(errors)
                assert all(
                    "application/problem+json" in response["content"]
                    for response in errors.values()
                )


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_no_text_of_a_request_has_a_nul(model: type[BaseModel]) -> None:
    """A text with a NUL, which PostgreSQL cannot hold, is refused before a service is asked."""
    taken = {
        field.alias or name
        for name, field in model.model_fields.items()
        if (model.__name__, name) not in MAY_HAVE_NUL
        and any(takes(model, field.alias or name, value) for value in NULS)
    }

    assert taken == set()


def takes(model: type[BaseModel], name: str, value: object) -> bool:
    """Return whether a model has nothing against a value of one of its fields."""
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        return not any(each["loc"][:1] in {(name,), ()} for each in error.errors())
    return True


PARAMETERS = [
    (operation.method, operation.path, name)
    for operation in OPERATIONS
    if operation.query
    for name, field in operation.query.model_fields.items()
    for name in [field.alias or name]
]


@pytest.mark.parametrize(("method", "path", "name"), PARAMETERS)
async def test_no_parameter_has_a_nul(api: ApiClient, method: str, path: str, name: str) -> None:
    """A NUL in a parameter of the query is a 422 that names it, although no service runs."""
    client = api.admin if "/clients" in path else api
    answer = await client.call(method, f"{PART.sub('a', path)}?{name}=%00")

    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, f"#/{name}")


@pytest.mark.parametrize(
    ("method", "path"),
    [(each.method, each.path) for each in OPERATIONS if "{" in each.path],
)
async def test_no_path_has_a_nul(api: ApiClient, method: str, path: str) -> None:
    """A NUL in a part of the path is answered at once, although no service runs."""
    client = api.admin if "/clients" in path else api
    answer = await client.call(method, PART.sub("a%00b", path), None if method == "GET" else {})

    assert answer.status < 500
