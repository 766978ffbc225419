"""Messages from request body to command, without HTTP."""

import time
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.gateway.api import body as bodies
from services.gateway.api.messages import NewMessage
from services.gateway.api.problem import Problem
from services.gateway.clients.idempotency import RequestStamp
from shared import contracts
from shared.contracts import Category, SendEmail
from shared.contracts.attachment import Attachment, CalendarObject
from shared.contracts.fields import Tag

STAMP = RequestStamp("m1", datetime(2026, 11, 1, 12, tzinfo=UTC))
FILE = {"filename": "a.txt", "content": "SGVsbG8="}
INVITATION = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"
CALENDAR = {"method": "REQUEST", "content": INVITATION}
TAG = {"name": "campaign", "value": "spring"}
MAIL = {"to": "ann@example.com", "subject": "Hello", "text": "Hello, Ann."}


def command(**fields: object) -> SendEmail:
    """Return the command of a good message with some fields changed."""
    return bodies.read(NewMessage, orjson.dumps(MAIL | fields)).command(STAMP, "shop")


def refusal(body: bytes) -> Problem:
    """Return the problem of a wrong body."""
    with pytest.raises(Problem) as caught:
        bodies.read(NewMessage, body)
    return caught.value


def mistakes(**fields: object) -> dict[str, str]:
    """Return the mistakes of a message by place."""
    problem = refusal(orjson.dumps(MAIL | fields))
    assert problem.type.status == 422
    return {each.pointer: each.detail for each in problem.errors}


def test_a_message_becomes_a_command() -> None:
    """A command has canonical addresses; all other fields are as the client sent them."""
    made = command(
        **{"from": "Shop <shop@Example.com>"},
        to=["Ann <ann@EXAMPLE.com>", "bob@example.com"],
        cc="carol@example.com",
        reply_to="help@example.com",
        category="bulk",
        html="<p>Hello",
        attachments=[{"filename": "a.txt", "content": "SGVsbG8="}],
        headers={"list-id": "<news.example.com>"},
        calendar=CALENDAR,
        tags=[TAG],
        metadata={"order": "17"},
        list_id="news",
        expires_at="2026-11-02T12:00:00+01:00",
    )

    assert made == SendEmail(
        id="m1",
        category=Category.BULK,
        from_="Shop <shop@example.com>",
        to=("Ann <ann@example.com>", "bob@example.com"),
        cc=("carol@example.com",),
        reply_to=("help@example.com",),
        subject="Hello",
        text="Hello, Ann.",
        html="<p>Hello",
        attachments=(Attachment(filename="a.txt", content="SGVsbG8="),),
        headers={"List-Id": "<news.example.com>"},
        calendar=CalendarObject(method="REQUEST", content=INVITATION),
        tags=(Tag(name="campaign", value="spring"),),
        metadata={"order": "17"},
        list_id="news",
        expires_at=datetime(2026, 11, 2, 11, tzinfo=UTC),
        client="shop",
        created_at=STAMP.at,
    )
    assert made.routing_key == "email.send.bulk"


@given(
    to=st.lists(st.sampled_from(["a@x.example", "B <b@x.example>"]), min_size=1, max_size=3),
    subject=st.text(max_size=50),
    text=st.none() | st.text(max_size=50),
    html=st.none() | st.text(max_size=50),
    category=st.sampled_from(Category),
    attachments=st.lists(
        st.fixed_dictionaries(
            {
                "filename": st.text(max_size=20),
                "content": st.sampled_from(["", "SGVsbG8=", "SGVsbG8"]),
            },
            optional={
                "content_type": st.sampled_from(["image/png", "text/csv; charset=utf-8", "x"]),
                "content_id": st.sampled_from(["logo", "a@b", "<a>", None]),
            },
        ),
        max_size=2,
    ),
    headers=st.dictionaries(
        st.sampled_from(["List-Unsubscribe", "list-id", "X-A", "x-a", "Bcc"]),
        st.sampled_from(["<https://example.com/u>", "<a.example>"]) | st.text(max_size=20),
        max_size=2,
    ),
)
def test_an_accepted_message_can_be_read_by_the_sender(**fields: Any) -> None:  # noqa: ANN401 -- drawn
    """The contract accepts every command that the schema makes."""
    try:
        made = command(**fields)
    except Problem:
        return

    assert contracts.decode(made.routing_key, contracts.encode(made)) == made


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"to": None}, "#/to"),
        ({"to": []}, "#/to"),
        ({"to": 5}, "#/to"),
        ({"to": {"email": "a@x.example"}}, "#/to"),
        ({"to": ["a@x.example", 5]}, "#/to/1"),
        ({"to": "a@x.example, b@x.example"}, "#/to/0"),
        ({"to": "a@x.example\r\nBcc: b@x.example"}, "#/to/0"),
        ({"to": "a@x.example\x00"}, "#/to/0"),
        ({"to": "a" * 70 + "@x.example"}, "#/to/0"),
        ({"to": "a@" + "b." * 500_000 + "example"}, "#/to/0"),
        ({"cc": ["a@x.example"] * 101}, "#/cc"),
        ({"bcc": ["a@x.example"] * 100}, "#"),
        ({"from": "=?utf-8?q?=0ABcc:b?= <a@x.example>"}, "#/from"),
        ({"from_": "a@x.example"}, "#/from_"),
        ({"reply_to": ["a@x.example", "b"]}, "#/reply_to/1"),
        ({"reply_to": "a@x.example, b@x.example"}, "#/reply_to/0"),
        ({"reply_to": ["a@x.example"] * 11}, "#/reply_to"),
        ({"calendar": CALENDAR | {"method": "CANCEL"}}, "#/calendar"),
        ({"calendar": CALENDAR | {"method": "request"}}, "#/calendar/method"),
        ({"calendar": CALENDAR | {"content": "BEGIN:VCALENDAR"}}, "#/calendar/content"),
        ({"calendar": CALENDAR | {"name": "a.ics"}}, "#/calendar/name"),
        ({"calendar": INVITATION}, "#/calendar"),
        ({"tags": [TAG, TAG]}, "#/tags"),
        ({"tags": [TAG | {"value": "a b"}]}, "#/tags/0/value"),
        ({"tags": [TAG | {"colour": "red"}]}, "#/tags/0/colour"),
        ({"tags": {"campaign": "spring"}}, "#/tags"),
        ({"metadata": {"order": 17}}, "#/metadata/order"),
        ({"metadata": {"a\n": "b"}}, "#/metadata/a%0A"),
        ({"metadata": [TAG]}, "#/metadata"),
        ({"list_id": "news"}, "#"),
        ({"list_id": "a b", "category": "bulk"}, "#/list_id"),
        ({"expires_at": "tomorrow"}, "#/expires_at"),
        ({"expires_at": 1793620800}, "#/expires_at"),
        ({"expires_at": "1793620800"}, "#/expires_at"),
        ({"expires_at": "2026-11-02T12:00:00"}, "#/expires_at"),
        ({"expires_at": "0001-01-01T00:00:00Z"}, "#/expires_at"),
        ({"subject": 5}, "#/subject"),
        ({"subject": "Hi\r\nBcc: b@x.example"}, "#/subject"),
        ({"subject": "Hi\nthere"}, "#/subject"),
        ({"subject": "Hi =?utf-8?q?=0ABcc:_b?="}, "#/subject"),
        ({"subject": "Hi\x00"}, "#/subject"),
        ({"subject": "x" * 901}, "#/subject"),
        ({"text": "a\x00b"}, "#/text"),
        ({"text": 5}, "#/text"),
        ({"text": None}, "#"),
        ({"html": ["a"]}, "#/html"),
        ({"attachments": {}}, "#/attachments"),
        ({"attachments": [FILE | {"content": "SGVsbG8"}]}, "#/attachments/0/content"),
        ({"attachments": [FILE, FILE | {"filename": "../a"}]}, "#/attachments/1/filename"),
        ({"attachments": [FILE | {"filename": "a\r\nb"}]}, "#/attachments/0/filename"),
        (
            {"attachments": [FILE | {"content_type": "message/rfc822"}]},
            "#/attachments/0/content_type",
        ),
        ({"attachments": [FILE | {"content_id": "<a>"}]}, "#/attachments/0/content_id"),
        ({"attachments": [FILE | {"path": "/etc/passwd"}]}, "#/attachments/0/path"),
        ({"attachments": [FILE] * 51}, "#/attachments"),
        ({"attachments": [FILE | {"content": "AAAA" * 2_000_000}] * 2}, "#/attachments"),
        ({"headers": []}, "#/headers"),
        ({"headers": {"Bcc": "b@x.example"}}, "#/headers"),
        ({"headers": {"X-A": "a\r\nBcc: b@x.example"}}, "#/headers"),
        ({"headers": {"X-A": "=?utf-8?q?=0ABcc:_b?="}}, "#/headers"),
        ({"headers": {"X-A\r\nBcc": "b@x.example"}}, "#/headers"),
        ({"headers": {"X-A": 5}}, "#/headers/X-A"),
        ({"headers": {"List-Unsubscribe": "<ftp://x.example>"}}, "#/headers"),
        ({"headers": {"List-Unsubscribe": "<https://x.example>"}, "category": "otp"}, "#"),
        ({"retries": -1}, "#/retries"),
        ({"retries": 1001}, "#/retries"),
        ({"retries": 2.5}, "#/retries"),
        ({"retries": "3"}, "#/retries"),
        ({"retries": True}, "#/retries"),
        ({"category": "urgent"}, "#/category"),
        ({"category": 1}, "#/category"),
        ({"id": "mine"}, "#/id"),
        ({"attempt": 9}, "#/attempt"),
        ({"sealed": "x"}, "#/sealed"),
        ({"client": "bank"}, "#/client"),
        ({"a/b~c d%": 1}, "#/a~1b~0c%20d%25"),
    ],
)
def test_each_mistake_has_its_place(fields: dict[str, object], pointer: str) -> None:
    """A wrong, unknown or dangerous field is a 422 that names its place."""
    assert list(mistakes(**fields)) == [pointer]


def test_all_mistakes_are_listed_up_to_a_limit() -> None:
    """A response has at most twenty mistakes, and the first one of each list."""
    found = mistakes(to=["x"] * 100, subject=5, **{f"x{number}": 1 for number in range(30)})

    assert len(found) == 20
    assert {"#/to/0", "#/subject"} < set(found)


@pytest.mark.parametrize(
    "fields",
    [
        {"to": [5] * 3_000},
        {"cc": ["x"] * 3_000},
        {"attachments": [{}] * 3_000},
        {"headers": {f"X-{number}": 5 for number in range(3_000)}},
        {"attachments": [{f"x{number}": 5 for number in range(3_000)}]},
        {f"x{number}": 5 for number in range(3_000)},
    ],
    ids=["to", "cc", "attachments", "headers", "attachment", "fields"],
)
def test_many_mistakes_of_a_kind_are_few(fields: dict[str, Any]) -> None:
    """Thousands of wrong items make at most two mistakes."""
    body = orjson.dumps(MAIL | fields)
    with pytest.raises(ValidationError) as caught:
        NewMessage.model_validate(orjson.loads(body))

    assert caught.value.error_count() <= 2


def test_a_hundred_thousand_recipients_are_refused_at_once() -> None:
    """A long list is refused before its addresses are parsed, which would take seconds."""
    body = orjson.dumps(MAIL | {"to": ["a@x.example"] * 80_000})
    begun = time.thread_time()

    assert refusal(body).type.status == 413
    assert time.thread_time() - begun < 0.5


def test_a_number_without_a_fraction_is_an_integer() -> None:
    """JSON has one kind of number: 3.0 is an integer to the schema, and to the gateway."""
    assert command(retries=3.0).retries == 3
