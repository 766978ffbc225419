"""Messages over HTTP, on a real broker."""

import asyncio
import base64
import io
import time
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import orjson
import pytest

from services.gateway.api import messages
from shared import contracts, topology
from shared.contracts import (
    Category,
    EmailBounced,
    EmailDeferred,
    EmailDelivered,
    SendEmail,
)
from shared.contracts.attachment import MAX_ATTACHED_BYTES
from tests.gateway.api_client import MAIL, ApiClient, declare, running, settings
from tests.gateway.fake_service import FakeService, outcomes, running_service
from tests.tap import depth, tapped
from tests.waiting import PATIENCE_SECONDS

TRANSACTIONAL = topology.sending_queue(Category.TRANSACTIONAL)
KEY = {"Idempotency-Key": "order-17"}


async def test_an_accepted_message_is_on_its_queue(api: ApiClient, vhost: str) -> None:
    """A 202 means that the message is on its queue, persistent and unchanged."""
    async with tapped(vhost, topology.COMMANDS) as tap:
        answer = await api.post("/v1/messages", MAIL)
        arrived = await tap.next()

    assert answer.status == 202
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json == {"id": arrived.message_id, "status": "accepted"}
    assert answer.headers["Location"] == f"/v1/messages/{arrived.message_id}"
    assert await depth(vhost, TRANSACTIONAL) == 1
    assert arrived.delivery_mode == 2
    command = contracts.decode(arrived.type or "", arrived.body)
    assert isinstance(command, SendEmail)
    assert (command.to, command.subject, command.text, command.client) == (
        ("ann@example.com",),
        "Hello",
        "Hello, Ann.",
        "shop",
    )
    assert command.created_at is not None


async def test_the_largest_message_reaches_the_sender(api: ApiClient, vhost: str) -> None:
    """Attachments up to their limit reach the sender unchanged."""
    content = base64.b64encode(bytes(range(256)) * (MAX_ATTACHED_BYTES // 256)).decode()
    mail = MAIL | {"attachments": [{"filename": "Größe.bin", "content": content}]}
    body, kind = io.BytesIO(orjson.dumps(mail)), {"Content-Type": "application/json"}
    sender = FakeService()

    async with running_service(vhost, TRANSACTIONAL, {SendEmail: sender}):
        answer = await api.call("POST", "/v1/messages", data=body, headers=kind)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await sender.asked.wait()

    (command,) = sender.got
    assert answer.status == 202
    assert isinstance(command, SendEmail)
    assert [(file.filename, file.content) for file in command.attachments] == [
        ("Größe.bin", content)
    ]


async def test_a_message_that_no_queue_takes_is_not_accepted(api: ApiClient) -> None:
    """A message that no queue receives is a 503 with Retry-After, never a 202."""
    for headers in ({}, {"Prefer": "wait=10"}):
        answer = await api.post("/v1/messages", MAIL | {"category": "bulk"}, headers)

        assert (answer.status, answer.json["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0


async def test_a_full_queue_refuses(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """A message that the broker refuses is a 503; every accepted one is on the queue."""
    await declare(vhost, max_length=5)
    async with running(settings(vhost, tmp_path), http) as api:
        statuses = [(await api.post("/v1/messages", MAIL)).status for _ in range(20)]

    assert set(statuses) == {202, 503}
    assert statuses[-1] == 503
    assert await depth(vhost, TRANSACTIONAL) == statuses.count(202)


async def test_waiting_for_the_outcome_of_every_recipient(api: ApiClient, vhost: str) -> None:
    """With `Prefer: wait` the response is a 200 with the outcome of each recipient."""
    sender = FakeService(outcomes(EmailDelivered, EmailBounced))
    async with running_service(vhost, TRANSACTIONAL, {SendEmail: sender}):
        answer = await api.post(
            "/v1/messages",
            MAIL | {"to": ["Ann <ann@example.com>", "bob@example.com"]},
            {"Prefer": "wait=10"},
        )

    assert answer.status == 200
    assert answer.headers["Preference-Applied"] == "wait=10"
    reply = {"stage": "rcpt", "code": 250, "text": "so it is"}
    assert answer.json == {
        "id": sender.got[0].id,
        "status": "final",
        "recipients": [
            {
                "recipient": "ann@example.com",
                "outcome": "delivered",
                "attempt": 1,
                "reply": reply,
            },
            {
                "recipient": "bob@example.com",
                "outcome": "bounced",
                "attempt": 1,
                "reply": reply,
                "reply_class": "mailbox_unknown",
            },
        ],
    }


async def test_a_wait_ends_with_its_time(api: ApiClient, vhost: str) -> None:
    """A wait without a final outcome ends after its seconds with a 202."""
    sender = FakeService(outcomes(EmailDeferred))
    async with running_service(vhost, TRANSACTIONAL, {SendEmail: sender}):
        begun = time.monotonic()
        answer = await api.post("/v1/messages", MAIL, {"Prefer": "wait=1"})

    assert time.monotonic() - begun > 0.9
    assert answer.status == 202
    assert answer.headers["Preference-Applied"] == "wait=1"
    assert answer.json == {"id": sender.got[0].id, "status": "accepted"}


async def test_a_wait_ends_with_its_connection(api: ApiClient, vhost: str) -> None:
    """A wait ends when its client closes the connection."""
    sender = FakeService()
    async with running_service(vhost, TRANSACTIONAL, {SendEmail: sender}):
        asking = asyncio.create_task(api.post("/v1/messages", MAIL, {"Prefer": "wait=30"}))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await sender.asked.wait()
            [waiting] = (task for task in asyncio.all_tasks() if _is_a_wait(task))

            asking.cancel()

            await asyncio.wait({waiting})
    assert waiting.cancelled()


def _is_a_wait(task: asyncio.Task[object]) -> bool:
    return task.get_name().startswith("outcomes of ")


async def test_a_client_sends_from_its_own_addresses_only(api: ApiClient, vhost: str) -> None:
    """A From that the client may not use is a 403, and nothing is published."""
    shop = await api.registered("outlet", senders=["news@shop.example", "@Outlet.example"])
    async with tapped(vhost, topology.COMMANDS) as tap:
        for sender, status in (
            ("a@bank.example", 403),
            ("other@shop.example", 403),
            ("a@sub.outlet.example", 403),
            ("Outlet <a@outlet.example>", 202),
            ("news@Shop.example", 202),
        ):
            answer = await shop.post("/v1/messages", MAIL | {"from": sender})
            assert answer.status == status, sender
        default = await shop.post("/v1/messages", MAIL)
        arrived = [(await tap.next()).message_id for _ in range(3)]

    assert default.status == 202
    assert arrived[-1] == default.json["id"]


async def test_the_number_of_retries_goes_with_the_message(api: ApiClient, vhost: str) -> None:
    """The command has the number of retries that the client set."""
    async with tapped(vhost, topology.COMMANDS) as tap:
        await api.post("/v1/messages", MAIL | {"retries": 0})
        arrived = await tap.next()

    command = contracts.decode(arrived.type or "", arrived.body)
    assert isinstance(command, SendEmail)
    assert command.retries == 0


async def test_labels_and_an_invitation_go_with_the_message(api: ApiClient, vhost: str) -> None:
    """The command has the tags, metadata, list, end and invitation that the client set."""
    invitation = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"
    await declare(vhost, [topology.sending_queue(Category.BULK)])
    async with tapped(vhost, topology.COMMANDS) as tap:
        answer = await api.post(
            "/v1/messages",
            MAIL
            | {
                "category": "bulk",
                "list_id": "news",
                "tags": [{"name": "campaign", "value": "spring"}],
                "metadata": {"order": "17"},
                "expires_at": "9998-12-31T23:59:59Z",
                "reply_to": ["a@x.example", "b@x.example"],
                "calendar": {"method": "REQUEST", "content": invitation},
            },
        )
        arrived = await tap.next()

    command = contracts.decode(arrived.type or "", arrived.body)
    assert answer.status == 202
    assert isinstance(command, SendEmail)
    assert (command.list_id, command.metadata) == ("news", {"order": "17"})
    assert [(tag.name, tag.value) for tag in command.tags] == [("campaign", "spring")]
    assert command.expires_at == datetime(9998, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert command.reply_to == ("a@x.example", "b@x.example")
    assert command.calendar is not None
    assert command.calendar.content == invitation


async def test_a_message_that_has_expired_is_refused(api: ApiClient) -> None:
    """A message with its end in the past is a 422 of its own code, and does not take its key."""
    late = await api.post("/v1/messages", MAIL | {"expires_at": "2026-01-01T00:00:00Z"}, KEY)
    right = await api.post("/v1/messages", MAIL, KEY)

    assert (late.status, late.json["code"]) == (422, "expired")
    assert right.status == 202


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], 0),
        (["wait=10"], 10),
        (["Wait = 10"], 10),
        (['wait="10"'], 10),
        (["respond-async, wait=10"], 10),
        (["respond-async", "wait=10; foo=bar"], 10),
        (["wait=3, wait=10"], 3),
        (["wait=0"], 0),
        (["wait=31"], 30),
        (["wait=" + "9" * 5000], 30),
        (["wait=-1"], 0),
        (["wait=1.5"], 0),
        (["wait=\u0661\u0660"], 0),
        (["wait"], 0),
        (["await=10"], 0),
        (["", ",;=,"], 0),
    ],
)
def test_a_wait_is_read_leniently_and_capped(headers: list[str], seconds: int) -> None:
    """Every form of RFC 7240 is read, any other is no preference, and the limit caps both."""
    assert messages.preferred_wait(headers, max_seconds=30) == seconds
