"""Mails for later and mails of stored templates, on a real broker with fake services."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from services.gateway.api import records
from services.gateway.api.messages import read_message
from services.gateway.api.schedule import schedule_refusal
from shared import contracts, topology
from shared.contracts import (
    CancelEmail,
    ContentRendered,
    Contract,
    DescribeEmail,
    EmailDescribed,
    RenderContent,
    RescheduleEmail,
    SchedulingAnswered,
    SchedulingResult,
    SendEmail,
    UnscheduleEmail,
)
from tests.gateway.api.test_records import ANN, BOB, MAIL, cancelling, described
from tests.gateway.api_client import MAIL as NEW
from tests.gateway.api_client import ApiClient
from tests.gateway.fake_service import FakeService, running_service
from tests.tap import Tap, tapped

PATH = "/v1/messages"
KEY = {"Idempotency-Key": "order-17"}
NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=3)
WAITING = MAIL.model_copy(update={"recipients": (BOB,), "scheduled_at": LATER})
TEMPLATE = {"to": "ann@example.com", "template": {"id": "welcome", "variables": {"name": "Ann"}}}


def written(at: datetime) -> str:
    """Return a time as in a body."""
    return at.isoformat().replace("+00:00", "Z")


async def command_of(tap: Tap) -> SendEmail:
    """Return the next command for a mail among all commands and questions."""
    while True:
        message = await tap.next()
        command = contracts.decode(message.type or "", message.body)
        if isinstance(command, SendEmail):
            return command


def scheduling(*results: SchedulingResult) -> Callable[[Contract], Sequence[Contract]]:
    """Return a scheduler's answers, the last one again and again."""
    left = list(results)

    def answer(question: Contract) -> Sequence[Contract]:
        result = left.pop(0) if len(left) > 1 else left[0]
        return [SchedulingAnswered(id=question.id, result=result)]

    return answer


async def test_a_message_for_later_goes_to_the_scheduler(api: ApiClient, vhost: str) -> None:
    """A 202 comes at once, also for a client that would wait for the outcome."""
    async with tapped(vhost, topology.COMMANDS, "email.schedule.*") as tap:
        body = NEW | {"scheduled_at": written(LATER)}
        first = await api.post(PATH, body, KEY | {"Prefer": "wait=30"})
        again = await api.post(PATH, body, KEY)
        commands = [await command_of(tap), await command_of(tap)]

    assert (first.status, again.status) == (202, 202)
    assert first.json == again.json
    assert {each.id for each in commands} == {first.json["id"]}
    assert [each.scheduled_at for each in commands] == [LATER, LATER]


async def test_a_time_that_is_over_stays(api: ApiClient, vhost: str) -> None:
    """The scheduler sends it at once: it alone knows whether the id was sent or cancelled.

    The time by a gateway whose clock is ahead would be one to wait for.
    """
    async with tapped(vhost, topology.COMMANDS, "email.schedule.*") as tap:
        answer = await api.post(PATH, NEW | {"scheduled_at": "2020-07-20T20:17:00Z"})
        command = await command_of(tap)

    assert answer.status == 202
    assert command.scheduled_at == datetime(2020, 7, 20, 20, 17, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"scheduled_at": written(NOW + timedelta(days=31))}, "must be at most 30 days ahead"),
        (
            {"scheduled_at": written(LATER), "category": "otp"},
            "must be absent from a message of the category otp",
        ),
        (
            {"scheduled_at": written(LATER), "expires_at": written(LATER)},
            "must be before `expires_at`",
        ),
        (
            {"scheduled_at": "tomorrow"},
            "must be a date and time with its offset from UTC, such as 2026-11-01T12:00:00Z",
        ),
    ],
)
async def test_a_time_that_cannot_be(api: ApiClient, fields: dict[str, str], detail: str) -> None:
    """It is a 422 with its place, in a message and in each message of a batch; the key is free."""
    alone = await api.post(PATH, NEW | fields, KEY)
    batch = await api.post(f"{PATH}/batch", [NEW | fields, NEW])
    good = await api.post(PATH, NEW | {"scheduled_at": written(LATER)}, KEY)

    mistake = {"pointer": "#/scheduled_at", "detail": detail}
    assert (alone.status, alone.json["errors"]) == (422, [mistake])
    assert [each["status"] for each in batch.json["messages"]] == ["refused", "accepted"]
    assert batch.json["messages"][0]["errors"] == [mistake]
    assert good.status == 202


def test_thirty_days_ahead_is_the_limit() -> None:
    """A message may wait for exactly 30 days, and not for a microsecond more."""
    limit = NOW + timedelta(days=30)

    assert schedule_refusal(limit, NOW) is None
    assert schedule_refusal(limit + timedelta(microseconds=1), NOW) is not None


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-12-24T18:00:00Z", datetime(2026, 12, 24, 18, tzinfo=UTC)),
        ("2026-12-24t18:00:00z", datetime(2026, 12, 24, 18, tzinfo=UTC)),
        ("2026-12-24T18:00:00+05:30", datetime(2026, 12, 24, 12, 30, tzinfo=UTC)),
        ("2026-12-24T18:00:00-00:00", datetime(2026, 12, 24, 18, tzinfo=UTC)),
        ("2026-12-24T18:00:00.5Z", datetime(2026, 12, 24, 18, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-12-24T18:00:00.123456Z", datetime(2026, 12, 24, 18, 0, 0, 123_456, tzinfo=UTC)),
    ],
)
def test_a_time_has_any_form_of_rfc_3339(text: str, read: datetime) -> None:
    """Any offset, fractions of a second and small letters are read as what they mean."""
    message = read_message(orjson.dumps(NEW | {"scheduled_at": text}))

    assert message.scheduled_at == read


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        (PATH, TEMPLATE | {"category": "otp"}, "#/scheduled_at"),
        (
            f"{PATH}/batch",
            {
                "template": {"subject": "Hello", "text": "Hello"},
                "recipients": [{"to": "ann@example.com"}],
                "category": "otp",
            },
            "#/scheduled_at",
        ),
        (
            "/v1/tasks",
            {
                "task": "login",
                "type": "generateOtp",
                "payload": {"userId": "ann@example.com", "length": 6},
            },
            "#/scheduled_at",
        ),
        ("/v1/otp", {"email": "ann@example.com"}, "#/scheduled_at"),
    ],
)
async def test_a_code_is_never_scheduled(
    api: ApiClient, path: str, body: dict[str, object], pointer: str
) -> None:
    """It is a 422 at its place, whichever way it comes in."""
    answer = await api.post(path, body | {"scheduled_at": written(LATER)})

    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, pointer)


async def test_batches_for_later(api: ApiClient, vhost: str) -> None:
    """Each message of a list has a time of its own, all messages of a template have one."""
    own = NEW | {"scheduled_at": written(LATER)}
    one = {
        "template": {"subject": "For {{ name }}", "text": "Hello"},
        "recipients": [{"to": "ann@example.com", "variables": {"name": "Ann"}}],
        "scheduled_at": written(LATER),
    }
    async with tapped(vhost, topology.COMMANDS, "email.schedule.*") as tap:
        answers = [await api.post(f"{PATH}/batch", each) for each in ([own], one)]
        commands = [await command_of(tap), await command_of(tap)]

    assert [each.status for each in answers] == [202, 202]
    assert [(each.subject, each.scheduled_at) for each in commands] == [
        ("Hello", LATER),
        ("For Ann", LATER),
    ]


async def test_a_task_for_later(api: ApiClient, vhost: str) -> None:
    """A task of the type message may have a time; one too far ahead is refused with its place."""
    task = {
        "task": "welcome",
        "type": "message",
        "payload": {"userId": "ann@example.com", "subject": "Hello", "content": "Hello, Ann."},
    }
    async with tapped(vhost, topology.COMMANDS, "email.schedule.*") as tap:
        answer = await api.post("/v1/tasks", task | {"scheduled_at": written(LATER)})
        command = await command_of(tap)
    far = await api.post("/v1/tasks", task | {"scheduled_at": "2400-01-01T00:00:00Z"})

    assert (answer.status, command.scheduled_at) == (202, LATER)
    assert (far.status, far.json["errors"][0]["pointer"]) == (422, "#/scheduled_at")


async def test_the_time_of_a_message_is_changed(api: ApiClient, vhost: str) -> None:
    """The scheduler is asked again while it has not stored the command yet."""
    unknown, done = SchedulingResult.UNKNOWN, SchedulingResult.DONE
    scheduler = FakeService(scheduling(unknown, unknown, done))
    ledger = FakeService(described(WAITING))
    at = NOW + timedelta(days=9)
    async with (
        running_service(vhost, topology.LEDGER_QUESTIONS, {DescribeEmail: ledger}),
        running_service(vhost, topology.SCHEDULER_QUESTIONS, {RescheduleEmail: scheduler}),
    ):
        answer = await api.call("PATCH", f"{PATH}/m1", {"scheduled_at": written(at)})
        shown = await api.call("GET", f"{PATH}/m1")

    assert (answer.status, answer.json) == (200, {"id": "m1", "scheduled_at": written(at)})
    assert [(each.client, each.email_id, each.scheduled_at) for each in scheduler.got] == [
        ("shop", "m1", at)
    ] * 3
    assert shown.json["scheduled_at"] == written(LATER)


async def test_a_message_that_does_not_wait_keeps_its_time(api: ApiClient, vhost: str) -> None:
    """One on its way, one that was never for later and a final one are a 409, others a 404."""
    mails = (
        WAITING,
        MAIL.model_copy(update={"email_id": "m2"}),
        WAITING.model_copy(update={"email_id": "m3", "recipients": (ANN,)}),
    )
    scheduler = FakeService(scheduling(SchedulingResult.UNKNOWN))
    bakery = await api.registered("bakery")
    change = {"scheduled_at": written(LATER)}
    async with (
        running_service(
            vhost, topology.LEDGER_QUESTIONS, {DescribeEmail: FakeService(described(*mails))}
        ),
        running_service(vhost, topology.SCHEDULER_QUESTIONS, {RescheduleEmail: scheduler}),
    ):
        late = [await api.call("PATCH", f"{PATH}/{each}", change) for each in ("m1", "m2", "m3")]
        unknown = await api.call("PATCH", f"{PATH}/m9", change)
        foreign = await bakery.call("PATCH", f"{PATH}/m1", change)

    assert {(each.status, each.json["code"]) for each in late} == {(409, "not-scheduled")}
    assert len(scheduler.got) == 1 + len(records.WAITS_SECONDS)
    assert {(each.status, each.json["code"]) for each in (unknown, foreign)} == {
        (404, "no-such-message")
    }


async def test_a_new_time_has_the_limits_of_the_first_one(api: ApiClient, vhost: str) -> None:
    """It is within 30 days, and before the message expires."""
    mail = WAITING.model_copy(update={"expires_at": LATER})
    times = ("2400-01-01T00:00:00Z", written(LATER))
    async with running_service(
        vhost, topology.LEDGER_QUESTIONS, {DescribeEmail: FakeService(described(mail))}
    ):
        answers = [await api.call("PATCH", f"{PATH}/m1", {"scheduled_at": at}) for at in times]

    assert [(each.status, each.json["errors"]) for each in answers] == [
        (422, [{"pointer": "#/scheduled_at", "detail": detail}])
        for detail in (
            "must be at most 30 days ahead",
            "must be before `expires_at` of the message",
        )
    ]


@pytest.mark.parametrize(
    ("result", "asked"), [(SchedulingResult.DONE, 0), (SchedulingResult.UNKNOWN, 1)]
)
async def test_a_message_for_later_is_cancelled(
    api: ApiClient, vhost: str, result: SchedulingResult, asked: int
) -> None:
    """The scheduler is asked first, and the sender if the scheduler does not have it."""
    scheduler, sender = FakeService(scheduling(result)), FakeService(cancelling(undecided=1))
    ledger = FakeService(described(WAITING))
    async with (
        running_service(vhost, topology.LEDGER_QUESTIONS, {DescribeEmail: ledger}),
        running_service(vhost, topology.SCHEDULER_QUESTIONS, {UnscheduleEmail: scheduler}),
        running_service(vhost, topology.SENDER_QUESTIONS, {CancelEmail: sender}),
    ):
        answer = await api.call("DELETE", f"{PATH}/m1")

    assert answer.status == 202
    assert (answer.json["cancelled"], answer.json["undecided"]) == (1 - asked, asked)
    assert (len(scheduler.got), len(sender.got)) == (1, asked)


async def test_another_message_is_cancelled_without_the_scheduler(
    api: ApiClient, vhost: str
) -> None:
    """One that was never for later needs no scheduler."""
    sender = FakeService(cancelling(waiting=1))
    ledger = FakeService(described(MAIL))
    async with (
        running_service(vhost, topology.LEDGER_QUESTIONS, {DescribeEmail: ledger}),
        running_service(vhost, topology.SENDER_QUESTIONS, {CancelEmail: sender}),
    ):
        answer = await api.call("DELETE", f"{PATH}/m1")

    assert (answer.status, answer.json["cancelled"]) == (202, 1)


def rendered(question: RenderContent) -> Sequence[Contract]:
    """Return the mail of a content type, or the mistake of variables without a name."""
    if question.name != "welcome":
        return [ContentRendered(id=question.id)]
    if "name" not in question.variables:
        return [ContentRendered(id=question.id, version=1, mistake="name is missing")]
    name = question.variables["name"]
    html = f"<p>{name}</p>"
    subject = f"Welcome {name}"
    return [ContentRendered(id=question.id, version=1, subject=subject, html=html, text=f"{name}")]


async def test_a_message_of_a_stored_template(api: ApiClient, vhost: str) -> None:
    """The scheduler makes its content; all other fields are those of the request."""
    scheduler = FakeService(rendered)
    body = TEMPLATE | {"cc": ["bob@example.com"], "metadata": {"order": "17"}}
    async with (
        running_service(vhost, topology.SCHEDULER_QUESTIONS, {RenderContent: scheduler}),
        tapped(vhost, topology.COMMANDS) as tap,
    ):
        answer = await api.post(PATH, body)
        command = await command_of(tap)

    assert (answer.status, answer.json["id"]) == (202, command.id)
    assert [each.client for each in scheduler.got] == ["shop"]
    assert (command.subject, command.html, command.text) == ("Welcome Ann", "<p>Ann</p>", "Ann")
    assert (command.cc, command.metadata) == (("bob@example.com",), {"order": "17"})


@pytest.mark.parametrize(
    ("changes", "status", "pointer"),
    [
        ({"template": {"id": "unknown"}}, 404, None),
        ({"template": {"id": "welcome"}}, 422, "#/template/variables"),
        ({"template": {"id": "no name"}}, 422, "#/template/id"),
        ({"subject": "Hello"}, 422, "#/subject"),
        ({"text": "Hello"}, 422, "#/text"),
    ],
)
async def test_a_template_that_cannot_be_used(
    api: ApiClient, vhost: str, changes: dict[str, object], status: int, pointer: str | None
) -> None:
    """It has an answer with its place, and leaves the key free for another request."""
    scheduler = FakeService(rendered)
    async with running_service(vhost, topology.SCHEDULER_QUESTIONS, {RenderContent: scheduler}):
        wrong = await api.post(PATH, TEMPLATE | changes, KEY)
        good = await api.post(PATH, TEMPLATE, KEY)

    assert (wrong.status, good.status) == (status, 202)
    assert [each["pointer"] for each in wrong.json.get("errors", [])] == [pointer][: bool(pointer)]


async def test_a_repeat_is_one_mail_whatever_becomes_of_the_template(
    api: ApiClient, vhost: str
) -> None:
    """A repeat has the id of the first request, also if its content can be made no more."""
    known: set[str] = set()

    def accepted(question: DescribeEmail) -> Sequence[Contract]:
        mail = MAIL.model_copy(update={"email_id": question.email_id})
        found = question.email_id in known
        return [EmailDescribed(id=question.id, email=mail if found else None)]

    scheduler, ledger = FakeService(rendered), FakeService(accepted)
    async with (
        running_service(vhost, topology.SCHEDULER_QUESTIONS, {RenderContent: scheduler}),
        running_service(vhost, topology.LEDGER_QUESTIONS, {DescribeEmail: ledger}),
    ):
        first = await api.post(PATH, TEMPLATE, KEY)
        same = await api.post(PATH, TEMPLATE, KEY)
        scheduler.answer = lambda question: [ContentRendered(id=question.id)]
        unrecorded = await api.post(PATH, TEMPLATE, KEY)
        known.add(first.json["id"])
        gone = await api.post(PATH, TEMPLATE, KEY)

    assert (first.status, same.status, unrecorded.status, gone.status) == (202, 202, 404, 202)
    assert first.json == same.json == gone.json
    assert all(each.client == "shop" for each in ledger.got)
