"""Records of messages over HTTP, on a real broker with a fake ledger and a fake sender."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.gateway.api import records
from shared import topology
from shared.contracts import (
    CancelEmail,
    Category,
    Contract,
    DescribeEmail,
    EmailCancelling,
    EmailDescribed,
    EmailRecord,
    EmailsListed,
    EmailStatus,
    HistoryEntry,
    ListEmails,
    RecipientStatus,
    Reply,
    ReplyClass,
    Stage,
)
from tests.gateway.api_client import ApiClient
from tests.gateway.fake_service import NOW, FakeService, running_service

LATER = NOW + timedelta(seconds=15)
GREYLISTED = Reply(stage=Stage.RCPT, code=451, enhanced="4.7.1", text="greylisted")
ACCEPTED = Reply(stage=Stage.DOT, code=250, text="queued")
ANN = RecipientStatus(
    recipient="ann@example.com",
    status=EmailStatus.DELIVERED,
    attempts=2,
    at=LATER,
    reply=ACCEPTED,
)
BOB = RecipientStatus(recipient="bob@example.com", status=EmailStatus.WAITING, attempts=0)
MAIL = EmailRecord(
    email_id="m1",
    client="shop",
    category=Category.TRANSACTIONAL,
    from_="shop@shop.example",
    subject="Grüße",
    tags={"campaign": "spring"},
    metadata={"order": "17"},
    size_bytes=321,
    message_id="<m1@shop.example>",
    accepted_at=NOW,
    recipients=(ANN, BOB),
)
HISTORY = (
    HistoryEntry(
        recipient="ann@example.com",
        status=EmailStatus.DEFERRED,
        attempt=1,
        at=NOW,
        reply=GREYLISTED,
        reply_class=ReplyClass.TEMPORARY,
        retry_after=15,
    ),
    HistoryEntry(
        recipient="ann@example.com",
        status=EmailStatus.DELIVERED,
        attempt=2,
        at=LATER,
        reply=ACCEPTED,
    ),
)
SHOWN = {
    "id": "m1",
    "client": "shop",
    "status": "accepted",
    "category": "transactional",
    "from": "shop@shop.example",
    "subject": "Grüße",
    "tags": [{"name": "campaign", "value": "spring"}],
    "metadata": {"order": "17"},
    "size_bytes": 321,
    "message_id": "<m1@shop.example>",
    "created_at": "2026-11-01T00:00:00Z",
}
DELIVERED = {
    "recipient": "ann@example.com",
    "status": "delivered",
    "attempts": 2,
    "at": "2026-11-01T00:00:15Z",
    "reply": {"stage": "dot", "code": 250, "text": "queued"},
}
WAITING = {"recipient": "bob@example.com", "status": "waiting", "attempts": 0}


def described(*known: EmailRecord) -> Callable[[DescribeEmail], Sequence[Contract]]:
    """Return a ledger's answer: the mail of that id if the client is its own, else nothing."""

    def describe(question: DescribeEmail) -> Sequence[Contract]:
        for mail in known:
            if question.email_id == mail.email_id and question.client in (None, mail.client):
                return [EmailDescribed(id=question.id, email=mail, history=HISTORY)]
        return [EmailDescribed(id=question.id)]

    return describe


def shared_by(*clients: str) -> Callable[[DescribeEmail], Sequence[Contract]]:
    """Return a ledger's answer when these clients have a mail of the id."""

    def describe(question: DescribeEmail) -> Sequence[Contract]:
        if question.client is None:
            return [EmailDescribed(id=question.id, clients=clients)]
        mail = MAIL.model_copy(update={"client": question.client or None})
        return [EmailDescribed(id=question.id, email=mail)]

    return describe


def cancelling(**counts: int) -> Callable[[CancelEmail], Sequence[Contract]]:
    """Return a sender's answer with these numbers of recipients, and no others."""
    numbers = {"waiting": 0, "undecided": 0, "ended": 0, "cancelled": 0} | counts
    return lambda question: [EmailCancelling(id=question.id, **numbers)]


async def test_a_message_has_the_history_of_each_recipient(api: ApiClient, vhost: str) -> None:
    """A GET shows the facts of a message, and the state and outcomes of each recipient."""
    async with running_service(
        vhost, topology.LEDGER_QUESTIONS, {DescribeEmail: FakeService(described(MAIL))}
    ):
        answer = await api.call("GET", "/v1/messages/m1")

    attempts = [
        {
            "status": "deferred",
            "attempt": 1,
            "at": "2026-11-01T00:00:00Z",
            "reply": {"stage": "rcpt", "code": 451, "enhanced": "4.7.1", "text": "greylisted"},
            "reply_class": "temporary",
            "retry_after": 15.0,
        },
        {
            "status": "delivered",
            "attempt": 2,
            "at": "2026-11-01T00:00:15Z",
            "reply": {"stage": "dot", "code": 250, "text": "queued"},
        },
    ]
    recipients = [DELIVERED | {"history": attempts}, WAITING | {"history": []}]
    assert (answer.status, answer.json) == (200, SHOWN | {"recipients": recipients})


async def test_a_message_is_final_when_all_its_recipients_are(api: ApiClient, vhost: str) -> None:
    """The status of a message is final once no outcome will follow."""
    mail = MAIL.model_copy(update={"recipients": (ANN,)})
    async with running_service(
        vhost, topology.LEDGER_QUESTIONS, {DescribeEmail: FakeService(described(mail))}
    ):
        answer = await api.call("GET", "/v1/messages/m1")

    assert answer.json["status"] == "final"


async def test_no_client_sees_the_message_of_another(api: ApiClient, vhost: str) -> None:
    """Another client's message, an unknown one and an impossible id are one 404.

    The administrator sees the messages of all.
    """
    bakery = await api.registered("bakery")
    async with running_service(
        vhost, topology.LEDGER_QUESTIONS, {DescribeEmail: FakeService(described(MAIL))}
    ):
        answers = [
            await bakery.call("GET", "/v1/messages/m1"),
            await api.call("GET", "/v1/messages/m2"),
            await api.call("GET", "/v1/messages/%22%00"),
            await bakery.call("DELETE", "/v1/messages/m1"),
        ]
        seen = await api.admin.call("GET", "/v1/messages/m1")

    assert {(each.status, each.json["code"]) for each in answers} == {(404, "no-such-message")}
    assert (seen.status, seen.json["client"]) == (200, "shop")


async def test_a_message_is_found_right_after_its_202(api: ApiClient, vhost: str) -> None:
    """The gateway asks again while the ledger has not yet read its copy of the command."""
    known = described(MAIL)

    def late(question: DescribeEmail) -> Sequence[Contract]:
        is_early = len(ledger.got) < 1 + len(records.WAITS_SECONDS)
        return [EmailDescribed(id=question.id)] if is_early else known(question)

    ledger = FakeService(late)
    async with running_service(vhost, topology.LEDGER_QUESTIONS, {DescribeEmail: ledger}):
        answer = await api.call("GET", "/v1/messages/m1")

    assert answer.status == 200
    assert len(ledger.got) == 1 + len(records.WAITS_SECONDS)
    assert sum(records.WAITS_SECONDS) <= 1


async def test_without_a_ledger_a_message_is_a_503(api: ApiClient) -> None:
    """While the ledger does not answer there is no 404: the message may be there."""
    for path in ("/v1/messages/m1", "/v1/messages"):
        answer = await api.call("GET", path)

        assert (answer.status, answer.json["code"]) == (503, "unavailable")
        assert "Retry-After" in answer.headers


async def test_messages_are_listed_by_cursor(api: ApiClient, vhost: str) -> None:
    """A page has the messages of the query, and the cursor of the next page."""
    ledger = FakeService(
        lambda it: [EmailsListed(id=it.id, emails=(MAIL,), next="19ca2f3b8d0a1b2d")]
    )
    query = (
        "recipient=Ann@EXAMPLE.com&status=delivered&category=transactional&tag=campaign:spring"
        "&since=2026-11-01T00:00:00Z&until=2026-11-02T00:00:00%2B01:00&after=19ca2f3b8d0a1b2c&limit=7"
    )
    async with running_service(vhost, topology.LEDGER_QUESTIONS, {ListEmails: ledger}):
        answer = await api.call("GET", f"/v1/messages?{query}")
        await api.admin.call("GET", "/v1/messages")

    narrow, bare = ledger.got
    shown = SHOWN | {"recipients": [DELIVERED, WAITING]}
    assert (answer.status, answer.json) == (200, {"messages": [shown], "next": "19ca2f3b8d0a1b2d"})
    assert narrow.model_dump(exclude={"id"}) == {
        "client": "shop",
        "recipient": "Ann@example.com",
        "status": EmailStatus.DELIVERED,
        "category": Category.TRANSACTIONAL,
        "tag": "campaign:spring",
        "since": NOW,
        "until": datetime(2026, 11, 1, 23, tzinfo=UTC),
        "after": "19ca2f3b8d0a1b2c",
        "limit": 7,
    }
    assert bare.model_dump(exclude={"id"}, exclude_none=True) == {"limit": 50}


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("recipient=ann", "#/recipient"),
        ("status=lost", "#/status"),
        ("category=spam", "#/category"),
        ("since=yesterday", "#/since"),
        ("limit=101", "#/limit"),
        ("after=", "#/after"),
        ("page=2", "#/page"),
        ("tag=a&tag=b", "#/tag"),
    ],
)
async def test_a_mistake_in_the_query_has_its_place(
    api: ApiClient, query: str, pointer: str
) -> None:
    """A wrong query is a 422 that names the parameter."""
    answer = await api.call("GET", f"/v1/messages?{query}")

    assert (answer.status, answer.json["code"]) == (422, "invalid")
    assert [each["pointer"] for each in answer.json["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("counts", "status", "shown"),
    [
        ({}, 202, {"cancelled": 2, "undecided": 0, "ended": 0}),
        ({"undecided": 2}, 202, {"cancelled": 0, "undecided": 2, "ended": 0}),
        ({"undecided": 1, "ended": 1}, 202, {"cancelled": 0, "undecided": 1, "ended": 1}),
        ({"waiting": 1, "ended": 1}, 202, {"cancelled": 1, "undecided": 0, "ended": 1}),
        ({"undecided": 1, "cancelled": 1}, 202, {"cancelled": 1, "undecided": 1, "ended": 0}),
        ({"cancelled": 1, "ended": 1}, 202, {"cancelled": 1, "undecided": 0, "ended": 1}),
        ({"ended": 2}, 409, {"code": "too-late"}),
    ],
)
async def test_a_message_is_cancelled_for_recipients_that_are_left(
    api: ApiClient, vhost: str, counts: dict[str, int], status: int, shown: dict[str, Any]
) -> None:
    """A DELETE is a 409 only once all recipients have ended and none of them as cancelled."""
    ledger, sender = FakeService(described(MAIL)), FakeService(cancelling(**counts))
    async with (
        running_service(vhost, topology.LEDGER_QUESTIONS, {DescribeEmail: ledger}),
        running_service(vhost, topology.SENDER_QUESTIONS, {CancelEmail: sender}),
    ):
        answer = await api.call("DELETE", "/v1/messages/m1")

    [question] = sender.got
    assert (question.email_id, question.client) == ("m1", "shop")
    assert answer.status == status
    assert answer.json.items() >= shown.items()


@pytest.mark.parametrize(
    ("states", "status", "shown"),
    [
        ("delivered bounced", 409, {"code": "too-late"}),
        ("delivered cancelled", 202, {"cancelled": 1, "undecided": 0, "ended": 1}),
        ("cancelled cancelled", 202, {"cancelled": 2, "undecided": 0, "ended": 0}),
    ],
)
async def test_a_message_that_has_ended_is_cancelled_by_its_outcomes(
    api: ApiClient, vhost: str, states: str, status: int, shown: dict[str, Any]
) -> None:
    """Once the ledger has all outcomes a DELETE is answered by them: the sender may forget it."""
    recipients = tuple(
        BOB.model_copy(update={"status": EmailStatus(each)}) for each in states.split()
    )
    mail = MAIL.model_copy(update={"recipients": recipients})
    ledger = FakeService(described(mail))
    async with running_service(vhost, topology.LEDGER_QUESTIONS, {DescribeEmail: ledger}):
        answer = await api.call("DELETE", "/v1/messages/m1")

    assert answer.status == status
    assert answer.json.items() >= shown.items()


async def test_the_administrator_names_a_client_of_a_shared_id(api: ApiClient, vhost: str) -> None:
    """Of several clients with a message of an id one is named; a client has its own alone."""
    ledger, sender = FakeService(shared_by("bakery", "shop", "")), FakeService(cancelling())
    async with (
        running_service(vhost, topology.LEDGER_QUESTIONS, {DescribeEmail: ledger}),
        running_service(vhost, topology.SENDER_QUESTIONS, {CancelEmail: sender}),
    ):
        unnamed = await api.admin.call("GET", "/v1/messages/m1")
        bakery = await api.admin.call("GET", "/v1/messages/m1?client=bakery")
        nobody = await api.admin.call("GET", "/v1/messages/m1?client=")
        refused = await api.admin.call("DELETE", "/v1/messages/m1")
        cancelled = await api.admin.call("DELETE", "/v1/messages/m1?client=bakery")
        own = await api.call("GET", "/v1/messages/m1?client=bakery")

    assert (unnamed.status, unnamed.json["code"]) == (409, "shared-id")
    assert "'bakery', 'shop', ''" in unnamed.json["detail"]
    assert (bakery.json["client"], "client" in nobody.json) == ("bakery", False)
    assert (refused.status, cancelled.status) == (409, 202)
    assert [each.client for each in sender.got] == ["bakery"]
    assert own.json["client"] != "bakery"


async def test_the_administrator_cancels_in_the_name_of_the_client(
    api: ApiClient, vhost: str
) -> None:
    """The sender is asked for the client that sent the message."""
    ledger, sender = FakeService(described(MAIL)), FakeService(cancelling())
    async with (
        running_service(vhost, topology.LEDGER_QUESTIONS, {DescribeEmail: ledger}),
        running_service(vhost, topology.SENDER_QUESTIONS, {CancelEmail: sender}),
    ):
        answer = await api.admin.call("DELETE", "/v1/messages/m1")

    assert answer.status == 202
    assert [each.client for each in sender.got] == ["shop"]
