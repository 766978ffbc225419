"""Tasks over HTTP, on a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from services.gateway.api.tasks import TASKS
from shared import contracts, topology
from shared.consumer import Handler
from shared.contracts import (
    AddSuppressions,
    Category,
    CodeIssued,
    CodeWithheld,
    Contract,
    DescribeSuppression,
    IssueCode,
    NewSuppression,
    SendEmail,
    Subscribe,
    SubscriptionAnswered,
    SubscriptionResult,
    Suppression,
    SuppressionOrigin,
    SuppressionsChanged,
    SuppressionsListed,
)
from shared.contracts.codes import Withholding
from tests.gateway.api_client import ApiClient
from tests.gateway.fake_service import NOW, FakeService, running_service
from tests.tap import tapped

PATH = "/v1/tasks"
KEY = {"Idempotency-Key": "task-17"}
USER = "ann@example.com"
PAYLOAD: dict[str, dict[str, object]] = {
    "message": {"userId": USER, "subject": "Hello", "content": "Hello, Ann."},
    "generateOtp": {"userId": USER, "length": 8},
    "subscribe": {"userId": USER, "content_type": "news", "frequency": "@weekly"},
    "unsubscribe": {"userId": USER, "content_type": "news"},
}
# What the older service asked of every task.
WHOLE = {
    "userId": USER,
    "content_type": "",
    "length": 0,
    "frequency": "@never",
    "subject": None,
    "content": 5,
    "colour": "red",
}


def a_task(kind: str, retries: int | None = 3, **payload: object) -> dict[str, object]:
    """Return a task with some fields of its payload changed."""
    fields = PAYLOAD[kind] | payload
    return {"task": "welcome", "type": kind, "retries": retries, "payload": fields}


def issued(command: IssueCode) -> list[CodeIssued]:
    """Answer that a code is on its way."""
    return [
        CodeIssued(
            id="e1",
            at=NOW,
            challenge_id="c1",
            email=command.email,
            expires_at=NOW + timedelta(minutes=10),
            resend_at=NOW + timedelta(minutes=1),
        )
    ]


async def command_of(api: ApiClient, vhost: str, task: object) -> Any:  # noqa: ANN401 -- a contract
    """Return the command of an accepted task."""
    async with tapped(vhost, topology.COMMANDS) as tap:
        answer = await api.post(PATH, task)
        arrived = await tap.next()
    command = contracts.decode(arrived.type or "", arrived.body)
    assert (answer.status, answer.json["id"]) == (202, command.id), answer.content
    assert answer.json.keys() == {"status", "msg", "id"}
    assert answer.json["status"] is True
    return command


@pytest.mark.parametrize(
    ("content", "text", "html"),
    [("Hello, Ann.", "Hello, Ann.", None), ("\n<p>Hello", None, "\n<p>Hello"), ("", "", None)],
)
async def test_a_message_is_sent_to_its_user(
    api: ApiClient, vhost: str, content: str, text: str | None, html: str | None
) -> None:
    """A task of type message is a mail to the address, in the form that its content has."""
    command = await command_of(api, vhost, a_task("message", content=content))

    assert isinstance(command, SendEmail)
    assert (command.to, command.subject, command.text, command.html) == (
        (USER,),
        "Hello",
        text,
        html,
    )
    assert (command.retries, command.metadata, command.client) == (3, {"task": "welcome"}, "shop")
    assert command.category is Category.TRANSACTIONAL


async def test_a_code_is_mailed(api: ApiClient, vhost: str) -> None:
    """A task of type generateOtp is a code of its length, answered when it is on its way."""
    otp = FakeService(issued)
    async with running_service(vhost, topology.OTP_COMMANDS, {IssueCode: otp}):
        answer = await api.post(PATH, a_task("generateOtp"))

    (command,) = otp.got
    assert answer.status == 202
    assert answer.json == {"status": True, "msg": "The code is on its way", "id": "c1"}
    assert (command.email, command.length, command.client) == (USER, 8, "shop")


async def test_codes_too_often_are_refused(api: ApiClient, vhost: str) -> None:
    """A code that is withheld is a 429, as at its own door."""
    withheld = CodeWithheld(id="e1", reason=Withholding.COOLDOWN, retry_after=42)
    otp = FakeService(lambda _: [withheld])
    async with running_service(vhost, topology.OTP_COMMANDS, {IssueCode: otp}):
        answer = await api.post(PATH, a_task("generateOtp"))

    assert (answer.status, answer.headers["Retry-After"]) == (429, "42")


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
async def test_subscriptions_are_unavailable_without_an_answer(api: ApiClient, kind: str) -> None:
    """A subscription that no service keeps is a 503, never a 202."""
    answer = await api.post(PATH, a_task(kind))

    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0


def answered(result: SubscriptionResult) -> FakeService:
    """Return a scheduler that answers each question with a result."""
    return FakeService(lambda asked: [SubscriptionAnswered(id=asked.id, result=result)])


@asynccontextmanager
async def with_opt_outs(vhost: str, *lists: str) -> AsyncIterator[None]:
    """Run a ledger that knows of opt-outs of some lists."""
    found = tuple(
        Suppression(
            email=USER,
            address_key="0" * 64,
            client="shop",
            list_id=name,
            categories=(Category.BULK,),
            origin=SuppressionOrigin.UNSUBSCRIBE,
            at=NOW,
        )
        for name in lists
    )
    ledger = FakeService(lambda asked: [SuppressionsListed(id=asked.id, suppressions=found)])
    async with running_service(vhost, topology.LEDGER_QUESTIONS, {DescribeSuppression: ledger}):
        yield


async def test_who_opted_out_is_not_subscribed_again(api: ApiClient, vhost: str) -> None:
    """A subscription whose mails would be stopped is a 409, never a 202."""
    async with with_opt_outs(vhost, "offers", "news"):
        answer = await api.post(PATH, a_task("subscribe"))

    assert (answer.status, answer.json["code"]) == (409, "opted-out")


async def test_a_subscription_is_kept_by_the_scheduler(api: ApiClient, vhost: str) -> None:
    """A task of type subscribe is answered when the scheduler has kept the subscription."""
    scheduler = answered(SubscriptionResult.CREATED)
    async with (
        running_service(vhost, topology.SCHEDULER_QUESTIONS, {Subscribe: scheduler}),
        with_opt_outs(vhost, "offers"),
    ):
        answer = await api.post(PATH, a_task("subscribe"))

    (asked,) = scheduler.got
    assert (answer.status, answer.json["id"]) == (202, asked.id)
    assert asked == Subscribe(
        id=asked.id,
        client="shop",
        email=USER,
        content_type="news",
        frequency="@weekly",
        retries=3,
    )


async def test_a_content_type_must_exist(api: ApiClient, vhost: str) -> None:
    """A subscription to an unknown content type is a 404 at once."""
    scheduler = answered(SubscriptionResult.NO_CONTENT_TYPE)
    async with (
        running_service(vhost, topology.SCHEDULER_QUESTIONS, {Subscribe: scheduler}),
        with_opt_outs(vhost),
    ):
        answer = await api.post(PATH, a_task("subscribe"))

    assert (answer.status, answer.json["code"]) == (404, "no-such-content-type")


async def test_an_opt_out_goes_to_the_ledger(api: ApiClient, vhost: str) -> None:
    """A task of type unsubscribe is an opt-out of the list, which the ledger keeps."""
    ledger = FakeService(lambda asked: [SuppressionsChanged(id=asked.id, suppressions=())])
    async with running_service(vhost, topology.LEDGER_QUESTIONS, {AddSuppressions: ledger}):
        answer = await api.post(PATH, a_task("unsubscribe"))

    (asked,) = ledger.got
    assert (answer.status, answer.json["id"]) == (202, asked.id)
    assert asked.suppressions == (
        NewSuppression(
            email=USER,
            client="shop",
            list_id="news",
            categories=(Category.BULK,),
            origin=SuppressionOrigin.UNSUBSCRIBE,
        ),
    )


@pytest.mark.parametrize("kind", TASKS)
def test_each_type_is_tried(kind: str) -> None:
    """No type of task is without its example here."""
    assert kind in PAYLOAD


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind, fields in PAYLOAD.items() for field in fields]
)
async def test_each_type_demands_its_own_fields(api: ApiClient, kind: str, field: str) -> None:
    """A field that a type needs is a mistake when it is missing."""
    task = a_task(kind)
    task["payload"] = {name: each for name, each in PAYLOAD[kind].items() if name != field}

    answer = await api.post(PATH, task)

    assert answer.status == 422
    assert answer.json["errors"] == [{"pointer": f"#/payload/{field}", "detail": "is required"}]


@pytest.mark.parametrize("kind", PAYLOAD)
async def test_no_type_refuses_what_it_does_not_need(api: ApiClient, vhost: str, kind: str) -> None:
    """A field of another type may have any value, and so may one that no type knows."""
    task = {"task": "welcome", "type": kind, "payload": WHOLE | PAYLOAD[kind]}
    scheduler = answered(SubscriptionResult.CREATED)
    ledger = FakeService(lambda asked: [SuppressionsChanged(id=asked.id, suppressions=())])
    list_of_none = FakeService(lambda asked: [SuppressionsListed(id=asked.id, suppressions=())])
    kinds: dict[type[Contract], Handler] = {
        AddSuppressions: ledger,
        DescribeSuppression: list_of_none,
    }
    async with (
        running_service(vhost, topology.OTP_COMMANDS, {IssueCode: FakeService(issued)}),
        running_service(vhost, topology.SCHEDULER_QUESTIONS, {Subscribe: scheduler}),
        running_service(vhost, topology.LEDGER_QUESTIONS, kinds),
    ):
        answer = await api.post(PATH, task)

    assert answer.status == 202, answer.content


@pytest.mark.parametrize(
    ("task", "pointer"),
    [
        (a_task("message") | {"type": "sms"}, "#/type"),
        (a_task("message") | {"type": ["message"]}, "#/type"),
        ({"task": "welcome", "payload": {}}, "#/type"),
        ([a_task("message")], "#/type"),
        (a_task("message") | {"task": ""}, "#/task"),
        (a_task("message") | {"task": "a\nb"}, "#/task"),
        (a_task("message") | {"colour": "red"}, "#/colour"),
        (a_task("message") | {"payload": "Hello"}, "#/payload"),
        (a_task("message", retries=-1), "#/retries"),
        (a_task("message", retries=1001), "#/retries"),
        (a_task("message", userId="ann"), "#/payload/userId"),
        (a_task("message", userId="Ann <ann@example.com>"), "#/payload/userId"),
        (a_task("message", subject="a\r\nBcc: b@x.example"), "#/payload/subject"),
        (a_task("generateOtp", length=3), "#/payload/length"),
        (a_task("generateOtp", length=9), "#/payload/length"),
        (a_task("generateOtp", length="6"), "#/payload/length"),
        (a_task("subscribe", frequency="@yearly"), "#/payload/frequency"),
        (a_task("subscribe", frequency="0 * * * *"), "#/payload/frequency"),
        (a_task("unsubscribe", content_type="a b"), "#/payload/content_type"),
    ],
)
async def test_each_mistake_has_its_place(api: ApiClient, task: object, pointer: str) -> None:
    """A wrong field that its type needs is a 422 that names its place."""
    answer = await api.post(PATH, task)

    assert (answer.status, answer.json["code"]) == (422, "invalid")
    assert [each["pointer"] for each in answer.json["errors"]] == [pointer]


async def test_fifty_equal_tasks_with_one_key_are_one_mail(api: ApiClient, vhost: str) -> None:
    """A task that is sent again with its key is the same mail."""
    async with tapped(vhost, topology.COMMANDS) as tap:
        answers = await asyncio.gather(*(api.post(PATH, a_task("message"), KEY) for _ in range(50)))
        ids = {(await tap.next()).message_id for _ in answers}

    assert {answer.status for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert len(ids) == 1


async def test_a_code_needs_its_own_scope(api: ApiClient) -> None:
    """A client that may send mail, and no codes, mails none by this door."""
    sender = await api.registered("mailer", scopes=["send"])

    answer = await sender.post(PATH, a_task("generateOtp"))

    assert (answer.status, answer.json["code"]) == (403, "insufficient-scope")
    assert 'scope="codes"' in answer.headers["WWW-Authenticate"]
