"""The OpenAPI document beside the app that it describes."""

import asyncio
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hypothesis
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import Phase, given
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode, checks
from schemathesis.core.result import Ok
from yarl import URL

from services.gateway import service
from services.gateway.api import body as bodies
from services.gateway.api import docs, openapi
from services.gateway.api.openapi import Access
from services.gateway.api.problem import Problem
from services.gateway.app import OPERATIONS
from shared import topology
from shared.broker import Broker
from shared.contracts import (
    AddSuppressions,
    CancelCode,
    CancelEmail,
    Category,
    CodeCancelled,
    CodeRefused,
    CodeWithheld,
    Contract,
    CountDomains,
    CountEmails,
    DescribeDomain,
    DescribeEmail,
    DescribeSuppression,
    DomainDescribed,
    DomainsCounted,
    DomainsListed,
    EmailCancelling,
    EmailDescribed,
    EmailsCounted,
    EmailsListed,
    IssueCode,
    ListDomains,
    ListEmails,
    ListSuppressions,
    RemoveSuppressions,
    SuppressionsChanged,
    SuppressionsListed,
    Verdict,
    VerifyCode,
)
from shared.contracts.codes import Withholding
from shared.rabbitmq import Connection
from shared.storage.database import Database, PostgresDatabase
from tests.gateway.api_client import ApiClient, declare, declare_scheduler, settings
from tests.gateway.fake_service import NOW, FakeService, running_service
from tests.shared.golden.ledger_examples import COUNTS, RECORD, SUPPRESSION

PUBLIC = {"/ping", "/healthz", "/readyz", "/metrics", "/v1/openapi.json"}
# Operations whose response is a success although a part of the request is wrong.
ACCEPTS_MISTAKES = {"POST /v1/events", "POST /v1/messages/batch"}
EXAMPLES = 15  # requests an operation
Operation = APIOperation[Any, Any, Any, Any]
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
]


def test_every_route_is_in_the_document_and_nothing_else(tmp_path: Path) -> None:
    """The app has exactly the routes of the document, beside the page that shows it."""
    broker = Broker("gateway", Connection(URL(), "publish", 10), Connection(URL(), "consume", 10))
    database = Database(PostgresDatabase("postgresql+asyncpg://", "gateway"))
    given = settings("amqp://nowhere", tmp_path)
    stores = service.Stores.of(database, 1.0)
    app = service.application(given, broker, database, stores, asyncio.Event())

    routes = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource and route.method != "HEAD"
    } - {("GET", route.path) for route in docs.routes()}
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


async def test_generated_requests_meet_described_answers(api: ApiClient, vhost: str) -> None:
    """Every response to generated requests has a described status, type and schema."""
    await declare(vhost, [topology.sending_queue(each) for each in (Category.OTP, Category.BULK)])
    await declare_scheduler(vhost)
    otp, classifier = FakeService(_as_otp), FakeService(_as_classifier)
    ledger, sender = FakeService(_as_ledger), FakeService(_as_sender)
    async with (
        running_service(vhost, topology.OTP_COMMANDS, {IssueCode: otp, CancelCode: otp}),
        running_service(vhost, topology.OTP_QUESTIONS, {VerifyCode: otp}),
        running_service(
            vhost,
            topology.CLASSIFIER_QUESTIONS,
            dict.fromkeys((DescribeDomain, ListDomains, CountDomains), classifier),
        ),
        running_service(
            vhost,
            topology.LEDGER_QUESTIONS,
            dict.fromkeys(
                (
                    DescribeEmail,
                    ListEmails,
                    CountEmails,
                    DescribeSuppression,
                    ListSuppressions,
                    AddSuppressions,
                    RemoveSuppressions,
                ),
                ledger,
            ),
        ),
        running_service(vhost, topology.SENDER_QUESTIONS, {CancelEmail: sender}),
    ):
        await asyncio.to_thread(_try_all, api)


def _as_otp(message: Contract) -> Sequence[Contract]:
    match message:
        case IssueCode():
            return [CodeWithheld(id=message.id, reason=Withholding.LIMIT, retry_after=1)]
        case VerifyCode():
            return [CodeRefused(id=message.id, at=NOW, email=message.email)]
        case _:
            return [CodeCancelled(id=message.id, challenge_id="c1")]


def _as_classifier(message: Contract) -> Sequence[Contract]:
    nothing = dict.fromkeys(("delivered", "bounced", "total", "unknown"), 0)
    match message:
        case DescribeDomain(domain=domain):
            return [
                DomainDescribed(
                    id=message.id, domain=domain, status=Verdict.UNKNOWN, delivered=0, bounced=0
                )
            ]
        case ListDomains():
            return [DomainsListed(id=message.id, domains=())]
        case _:
            return [DomainsCounted(id=message.id, catch_all=0, not_catch_all=0, **nothing)]


def _as_ledger(message: Contract) -> Sequence[Contract]:
    match message:
        case DescribeEmail():
            return [EmailDescribed(id=message.id, email=RECORD)]
        case ListEmails():
            return [EmailsListed(id=message.id, emails=(RECORD,), next="19ca2f3b8d0a1b2d")]
        case CountEmails():
            return [EmailsCounted(id=message.id, periods=(COUNTS,), total=COUNTS)]
        case DescribeSuppression() | ListSuppressions():
            return [SuppressionsListed(id=message.id, suppressions=(SUPPRESSION,))]
        case _:
            return [SuppressionsChanged(id=message.id, suppressions=(SUPPRESSION,))]


def _as_sender(message: Contract) -> Sequence[Contract]:
    return [EmailCancelling(id=message.id, waiting=1, undecided=0, ended=0, cancelled=0)]


def _try_all(api: ApiClient) -> None:
    """Send generated requests to every operation."""
    for found in schemathesis.openapi.from_dict(openapi.document(OPERATIONS)).get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        _try(operation, api.admin if "/clients" in operation.path else api)


def _try(operation: Operation, api: ApiClient) -> None:
    @hypothesis.settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, phases=[Phase.generate]
    )
    @given(st.one_of([operation.as_strategy(mode) for mode in _modes(operation)]))
    def answers_as_described(case: Case[Any]) -> None:
        case.call_and_validate(
            api.url,
            headers={"Authorization": f"Bearer {api.key}"},
            checks=CHECKS,
            timeout=30,  # more than `Prefer: wait` of an example
        )

    answers_as_described()


def _modes(operation: Operation) -> list[GenerationMode]:
    """Return the modes of generation: wrong values only for an operation with a body."""
    mistakable = operation.body and operation.label not in ACCEPTS_MISTAKES
    return list(GenerationMode) if mistakable else [GenerationMode.POSITIVE]
