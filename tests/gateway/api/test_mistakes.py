"""The words of mistakes, for every field and many wrong values."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from multidict import MultiDict
from pydantic import BaseModel

from services.gateway.api import body as bodies
from services.gateway.api import domains, events, openapi
from services.gateway.api.body import RequestBody, StrictModel
from services.gateway.api.clients import ClientChange, ClientPage, KeyRequest, NewClient
from services.gateway.api.codes import CodeGuess, NewCode
from services.gateway.api.events import NewEvent
from services.gateway.api.messages import NewAttachment, NewMessage
from services.gateway.api.problem import Mistake, Problem
from services.gateway.api.records import MessageQuery
from services.gateway.api.stats import StatsQuery
from services.gateway.api.suppressions import (
    SuppressionBatch,
    SuppressionChange,
    SuppressionQuery,
)
from services.gateway.api.tasks import (
    TASKS,
    CodeTask,
    MessageTask,
    SubscribeTask,
    UnsubscribeTask,
    read_task,
)
from services.gateway.app import OPERATIONS
from services.gateway.clients.idempotency import RequestStamp
from shared.contracts import attachment, fields, webhooks, wording
from shared.contracts.clients import CLIENT_ID_PATTERN, NETWORK_FORM, SENDER_FORM

MAIL = {"to": "ann@example.com", "subject": "Hello", "text": "Hello, Ann."}
FILE = {"filename": "a.txt", "content": "SGVsbG8="}
EVENT = {"domain": "one.example", "kind": "bounced"}
GOOD: dict[type[RequestBody], dict[str, object]] = {
    NewMessage: dict(MAIL),
    NewCode: {"email": "ann@example.com"},
    CodeGuess: {"email": "ann@example.com", "code": "1"},
    SuppressionChange: {},
    SuppressionBatch: {"remove": ["ann@example.com"]},
    MessageTask: {
        "task": "a",
        "type": "message",
        "payload": {"userId": "ann@example.com", "subject": "Hello", "content": "Hello."},
    },
    CodeTask: {
        "task": "a",
        "type": "generateOtp",
        "payload": {"userId": "ann@example.com", "length": 6},
    },
    SubscribeTask: {
        "task": "a",
        "type": "subscribe",
        "payload": {"userId": "ann@example.com", "content_type": "b", "frequency": "@daily"},
    },
    UnsubscribeTask: {
        "task": "a",
        "type": "unsubscribe",
        "payload": {"userId": "ann@example.com", "content_type": "b"},
    },
    NewClient: {"id": "shop"},
    ClientChange: {},
    KeyRequest: {},
}
QUERIES = (domains.Page, ClientPage, MessageQuery, StatsQuery, SuppressionQuery)
SECRET = "zq7"
TEXTS = (
    *("", " ", "\n", "=?", "nobody", "@", "ann@", "@b.example", "ann@b", "a..b@x.example"),
    *("a b@x.example", "Ann <a@x.example", "(c) a@x.example", "a@[192.0.2.1]", "a@x_y.example"),
    *("a@192.0.2.1", '"x"@x.example', "a@x.example, b@x.example", "\u200d@x.example", "é@é"),
    *("a" * 70 + "@x.example", "a@" + "x." * 120 + "example", "a@xn--zz.example", "xn--zz.example"),
    *("localhost", "1.2.3", "2026-13-01", "yesterday", "2026-01-01T00:00:00", "../a", "image/"),
    *("1960-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "message/rfc822", "<a>"),
    *(SECRET * count for count in (1, 30, 100, 400, 3_000)),
)
WRONG = (
    *TEXTS,
    *(None, True, 1.5, -1, 5, 10**18, 10**30, [], {}, [5], [SECRET], {SECRET: 1}),
    *(["a@x.example"] * 101, [FILE] * 51, {f"X-{number}": "a" for number in range(51)}),
    *({"Bcc": "a"}, {"X-A": 5}, {"X-A": ""}, {"X A": "a"}, {"x-a": "1", "X-A": "2"}),
    *({"X-A": "x" * 1_000}, {"X-A": "x" * 9_000}, {"x" * 2_000: "1"}, {"List-Unsubscribe": "x"}),
    *({"List-Id": "x"}, {"List-Id": "a, b <x.example>"}, {"References": "x"}, {"List-Post": "x"}),
    *({"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}, {"": "a"}, {"x" * 41: "a"}),
    *([{"name": "a", "value": "b"}] * 2, {"method": "REQUEST", "content": "x"}),
)
# Words of Python, of the validator, of regular expressions and of standards.
JARGON = re.compile(
    r"tuple|dict|model|pattern|\^\[|\[a-z|pydantic|pars|valid|input|string should|idna|NoneType|"
    r"datetime|\b_[a-z]|label|literal|octets|\[key\]|<\w+\.",
    re.IGNORECASE,
)
SENTENCE = re.compile(r"(its name |[\w-]+ )?(must|is)\b|The ")
# Patterns of values that code checks, which has words of its own.
FORMS = {
    *(fields.MAILBOX_FORM, fields.DOMAIN_FORM, fields.SUBJECT_FORM, fields.TEXT_FORM),
    *(fields.METADATA_FORM, webhooks.URL_FORM),
    *(attachment.NAME_FORM, attachment.TYPE_FORM, attachment.BASE64_FORM),
    *(SENDER_FORM, NETWORK_FORM),
}
STAMP = RequestStamp("r1", datetime(2026, 11, 1, tzinfo=UTC))


def names(model: type[BaseModel]) -> Iterator[str]:
    """Yield the names of a model's fields as a caller writes them."""
    for name, field in model.model_fields.items():
        yield field.alias or name


def refused(model: type[RequestBody], value: object) -> list[str]:
    """Return the words about a wrong body."""
    try:
        bodies.read(model, json.dumps(value).encode())
    except Problem as problem:
        return [problem.detail or "", *(each.detail for each in problem.errors)]
    return []


def refused_event(value: dict[str, object]) -> list[str]:
    """Return the words about a wrong event."""
    found = events.read_event(value, "r1.0", STAMP)
    return [each.detail for each in found.errors] if isinstance(found, Problem) else []


def refused_query(model: type[StrictModel], query: dict[str, str]) -> list[str]:
    """Return the words about a wrong query."""
    try:
        bodies.read_query(model, MultiDict(query))
    except Problem as problem:
        return [each.detail for each in problem.errors]
    return []


def all_texts() -> Iterator[tuple[object, str]]:
    """Yield the words about every field with every wrong value."""
    for value in WRONG:
        for model, good in GOOD.items():
            for name in names(model):
                yield from (((name, value), text) for text in refused(model, good | {name: value}))
        for name in names(NewAttachment):
            mail = MAIL | {"attachments": [FILE | {name: value}]}
            yield from (((name, value), text) for text in refused(NewMessage, mail))
        for name in names(NewEvent):
            texts = refused_event(EVENT | {name: value})
            yield from (((name, value), text) for text in texts)
    yield from texts_of_queries()


def texts_of_queries() -> Iterator[tuple[object, str]]:
    """Yield the words about every parameter of a query with every wrong text."""
    for text in TEXTS:
        for query in QUERIES:
            for name in names(query):
                yield from (((name, text), words) for words in refused_query(query, {name: text}))


def patterns(schema: object) -> Iterator[str]:
    """Yield all regular expressions of a schema."""
    if isinstance(schema, dict):
        if isinstance(pattern := schema.get("pattern"), str):
            yield pattern
        for each in schema.values():
            yield from patterns(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from patterns(each)


def test_mistakes_are_described_in_plain_words_without_values() -> None:
    """A mistake is described without Python's terms and without values (issue 10, H3)."""
    found = list(all_texts())

    assert len(found) > 1_000
    for value, text in found:
        assert not JARGON.search(text), (value, text)
        assert SECRET not in text, (value, text)
        assert not text or SENTENCE.match(text), (value, text)


def test_each_form_of_a_text_has_words() -> None:
    """Every pattern of a schema has words that describe it."""
    found = set(patterns(openapi.document(OPERATIONS)["components"]["schemas"]))

    assert CLIENT_ID_PATTERN in found
    assert found <= wording.PATTERNS.keys() | FORMS


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("nobody", "must be an email address such as ann@example.com"),
        ("", "must be an email address such as ann@example.com"),
        ("ann@b", "must have a domain name such as example.com after the @"),
        ("a" * 65 + "@x.example", "must have at most 64 characters before the @"),
        ("a@" + "x." * 130 + "example", "must have at most 254 characters"),
        ("a" * 64 + "@" + "x." * 100 + "example", "must have at most 254 characters"),
        ("a@x.example, b@x.example", "must be one email address; several of them are a list"),
        ([f"a{number}@x.example" for number in range(101)], "must have at most 100 items"),
        (5, "must be a string or a list of strings"),
    ],
)
def test_mistakes_of_an_address(value: Any, words: str) -> None:  # noqa: ANN401 -- any JSON
    """The words about a wrong address name the change to make, with the limit."""
    assert words in refused(NewMessage, MAIL | {"to": value})


def test_a_place_is_one_of_the_body() -> None:
    """A JSON Pointer has no names that only the validator knows."""
    with pytest.raises(Problem) as caught:
        bodies.read(NewMessage, json.dumps(MAIL | {"headers": {"x" * 2_000: "1"}}).encode())

    assert caught.value.errors == [
        Mistake("#/headers/" + "x" * 100, "its name must have at most 998 characters")
    ]


def test_a_time_is_never_digits_alone() -> None:
    """A number, which one could read as a year, a day or seconds since 1970, is no time."""
    refusals: list[list[str]] = []
    for model, good in GOOD.items():
        for name in _times(model):
            refusals += [refused(model, good | {name: each}) for each in (4102444800, "4102444800")]
    refusals += [refused_event(EVENT | {"at": each}) for each in (1793491200, "1793491200")]
    for query in QUERIES:
        for name in _times(query):
            refusals += [refused_query(query, {name: each}) for each in ("2026", "20261129")]

    assert len(refusals) > 12
    assert all("such as 2026-11-01T12:00:00Z" in "".join(words) for words in refusals), refusals


def _times(model: type[BaseModel]) -> Iterator[str]:
    """Yield the names of a model's fields that are times."""
    for name, schema in model.model_json_schema()["properties"].items():
        if '"date-time"' in json.dumps(schema):
            yield name


@pytest.mark.parametrize(
    ("model", "field", "value", "words"),
    [
        (SuppressionChange, "origin", "bounce", "must be 'manual' or 'unsubscribe'"),
        (NewMessage, "category", "urgent", "must be 'otp', 'transactional' or 'bulk'"),
        (MessageTask, "task", "", "must not be empty"),
    ],
)
def test_the_words_name_the_values(
    model: type[RequestBody], field: str, value: str, words: str
) -> None:
    """A value among few that is wrong is answered with those, as a caller writes them."""
    assert words in refused(model, GOOD[model] | {field: value})


def test_an_unknown_type_of_task_is_answered_with_those_there_are() -> None:
    """The words about the type of a task are a sentence with all types."""
    with pytest.raises(Problem) as caught:
        read_task(b'{"type": "sms"}')

    assert caught.value.errors == [
        Mistake("#/type", f"must be one of {', '.join(map(str, TASKS))}")
    ]
