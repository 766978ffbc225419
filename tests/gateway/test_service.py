"""The gateway between HTTP and a real broker: what its answers promise."""

import asyncio
import base64
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import orjson
import pytest

from ops.broker import Broker as Node
from services.gateway import service
from shared import contracts, topology
from shared.attachment import MAX_ATTACHED_BYTES
from shared.consumer import Handler
from shared.contracts import (
    Category,
    CodeRefused,
    CodeVerified,
    Contract,
    DescribeDomain,
    DomainDescribed,
    EmailBounced,
    EmailDeferred,
    EmailDelivered,
    FeedbackBounced,
    FeedbackDelivered,
    IssueCode,
    ReplyClass,
    SendEmail,
    Verdict,
    VerifyCode,
)
from tests.gateway.door import MAIL, Door, behind, declare, settings
from tests.tap import depth, tapped

TRANSACTIONAL = topology.sending_queue(Category.TRANSACTIONAL)
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class Behind:
    """A service behind the gateway that answers as it is told and remembers what it got."""

    answers: Sequence[type[Contract]] = ()
    got: list[Contract] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def on_send_email(self, command: SendEmail) -> Sequence[Contract]:
        """Answer with the outcomes, each for the recipient of its place."""
        self._note(command)
        told = zip(command.recipients, self.answers, strict=False)
        return [_outcome(kind, command, recipient) for recipient, kind in told]

    async def on_verify_code(self, question: VerifyCode) -> Sequence[Contract]:
        """Take 4711 for right."""
        self._note(question)
        if question.code != "4711":
            return [CodeRefused(id=question.id, at=NOW, email=question.email)]
        return [CodeVerified(id=question.id, at=NOW, email=question.email, challenge_id="c1")]

    async def on_describe_domain(self, question: DescribeDomain) -> Sequence[Contract]:
        """Know one thing of every domain."""
        self._note(question)
        return [
            DomainDescribed(
                id=question.id,
                domain=question.domain,
                status=Verdict.CATCH_ALL,
                delivered=1001,
                bounced=0,
            )
        ]

    async def on_anything(self, message: Contract) -> Sequence[Contract]:
        """Take it and say nothing."""
        self._note(message)
        return []

    def _note(self, message: Contract) -> None:
        self.got.append(message)
        self.asked.set()

    @property
    def mail(self) -> Mapping[type[Contract], Handler]:
        """Handle what the sender handles."""
        return {SendEmail: self.on_send_email}


def _outcome(kind: type[Contract], command: SendEmail, recipient: str) -> Contract:
    return kind.model_validate(
        {
            "id": f"{command.id}-{kind.__name__}",
            "at": NOW,
            "email_id": command.id,
            "category": command.category,
            "recipient": recipient,
            "attempt": 1,
            "reply": {"stage": "rcpt", "code": 250, "text": "so it is"},
            "reply_class": ReplyClass.MAILBOX_UNKNOWN,
            "retry_after": 5,
        }
    )


async def test_an_accepted_message_is_on_its_queue(door: Door, vhost: str) -> None:
    """The 202 names a message that the broker keeps, persistent, as the client gave it."""
    async with tapped(vhost, topology.COMMANDS) as tap:
        answer = await door.post("/v1/messages", MAIL)
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


async def test_the_largest_message_that_may_be_sent_is_kept(door: Door, vhost: str) -> None:
    """Files up to their limit go through the door, through the broker and are whole behind it."""
    content = base64.b64encode(bytes(range(256)) * (MAX_ATTACHED_BYTES // 256)).decode()
    mail = MAIL | {"attachments": [{"filename": "Größe.bin", "content": content}]}
    body, kind = io.BytesIO(orjson.dumps(mail)), {"Content-Type": "application/json"}
    service_behind = Behind()

    async with behind(vhost, TRANSACTIONAL, {SendEmail: service_behind.on_send_email}):
        answer = await door.call("POST", "/v1/messages", data=body, headers=kind)
        async with asyncio.timeout(10):
            await service_behind.asked.wait()

    (command,) = service_behind.got
    assert answer.status == 202
    assert isinstance(command, SendEmail)
    assert [(file.filename, file.content) for file in command.attachments] == [
        ("Größe.bin", content)
    ]


async def test_a_message_that_no_queue_takes_is_not_accepted(door: Door) -> None:
    """Bulk has no queue here: 503 with the time to try again, not a 202 for a lost message."""
    for headers in ({}, {"Prefer": "wait=10"}):
        answer = await door.post("/v1/messages", MAIL | {"category": "bulk"}, headers)

        assert (answer.status, answer.json["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0


async def test_a_full_queue_refuses(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """When the broker refuses a message, so does the gateway; what was accepted is there."""
    await declare(vhost, max_length=5)
    async with service.serving(settings(vhost, tmp_path), asyncio.Event()) as port:
        door = await Door(http, f"http://127.0.0.1:{port}").registered("shop")

        statuses = [(await door.post("/v1/messages", MAIL)).status for _ in range(20)]

    assert set(statuses) == {202, 503}
    assert statuses[-1] == 503
    assert await depth(vhost, TRANSACTIONAL) == statuses.count(202)


async def test_waiting_for_the_outcome_of_every_recipient(door: Door, vhost: str) -> None:
    """With `Prefer: wait` the answer is 200 and tells what became of each recipient."""
    sender = Behind([EmailDelivered, EmailBounced])
    async with behind(vhost, TRANSACTIONAL, sender.mail):
        answer = await door.post(
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


async def test_a_wait_ends_with_its_time(door: Door, vhost: str) -> None:
    """A message that is deferred is accepted and not final: 202 when the time is up."""
    sender = Behind([EmailDeferred])
    async with behind(vhost, TRANSACTIONAL, sender.mail):
        begun = time.monotonic()
        answer = await door.post("/v1/messages", MAIL, {"Prefer": "wait=1"})

    assert 0.9 < time.monotonic() - begun < 3
    assert answer.status == 202
    assert answer.headers["Preference-Applied"] == "wait=1"
    assert answer.json == {"id": sender.got[0].id, "status": "accepted"}


async def test_who_goes_away_while_waiting_leaves_nothing_behind(door: Door, vhost: str) -> None:
    """A wait ends with its client's connection."""
    sender = Behind()
    async with behind(vhost, TRANSACTIONAL, sender.mail):
        asking = asyncio.create_task(door.post("/v1/messages", MAIL, {"Prefer": "wait=30"}))
        async with asyncio.timeout(10):
            await sender.asked.wait()
            [waiting] = (task for task in asyncio.all_tasks() if _is_a_wait(task))

            asking.cancel()

            await asyncio.wait({waiting})
    assert waiting.cancelled()


def _is_a_wait(task: asyncio.Task[object]) -> bool:
    return task.get_name().startswith("outcomes of ")


async def test_a_code_is_asked_for(door: Door, vhost: str) -> None:
    """A command for the service that owns codes is kept."""
    async with tapped(vhost, topology.COMMANDS) as tap:
        answer = await door.post("/v1/otp", {"email": "Ann@EXAMPLE.com"})
        arrived = await tap.next()

    assert (answer.status, answer.json) == (202, {"id": arrived.message_id, "status": "accepted"})
    assert contracts.decode(arrived.type or "", arrived.body) == IssueCode(
        id=arrived.message_id or "", email="Ann@example.com", client="shop"
    )


async def test_a_code_is_verified(door: Door, vhost: str) -> None:
    """The verdict is a 200, whatever it is."""
    otp = Behind()
    async with behind(vhost, topology.OTP_QUESTIONS, {VerifyCode: otp.on_verify_code}):
        right = await door.post("/v1/otp/verify", {"email": "a@x.example", "code": "4711"})
        wrong = await door.post("/v1/otp/verify", {"email": "a@x.example", "code": "0815"})

    assert (right.status, right.json) == (200, {"verified": True})
    assert (wrong.status, wrong.json) == (200, {"verified": False})
    assert {question.client for question in otp.got if isinstance(question, VerifyCode)} == {"shop"}


async def test_feedback_is_kept(door: Door, vhost: str) -> None:
    """Both kinds arrive with the domain in its canonical form, each under an id of its own."""
    classifier = Behind()
    handlers: Mapping[type[Contract], Handler] = {
        FeedbackDelivered: classifier.on_anything,
        FeedbackBounced: classifier.on_anything,
    }
    async with tapped(vhost, topology.EVENTS) as tap, behind(vhost, topology.EVIDENCE, handlers):
        answers = [
            await door.call("PUT", f"/v1/events/B%C3%9Ccher.example/{kind}")
            for kind in ("delivered", "delivered", "bounced")
        ]
        arrived = [await tap.next() for _ in answers]

    assert [answer.status for answer in answers] == [202] * 3
    assert {answer.json["id"] for answer in answers} == {each.message_id for each in arrived}
    told = [contracts.decode(each.type or "", each.body) for each in arrived]
    assert [(type(each), getattr(each, "domain", None)) for each in told] == [
        (FeedbackDelivered, "xn--bcher-kva.example"),
        (FeedbackDelivered, "xn--bcher-kva.example"),
        (FeedbackBounced, "xn--bcher-kva.example"),
    ]


async def test_a_domain_is_described(door: Door, vhost: str) -> None:
    """The answer is the classifier's."""
    classifier = Behind()
    handlers: Mapping[type[Contract], Handler] = {DescribeDomain: classifier.on_describe_domain}
    async with behind(vhost, topology.CLASSIFIER_QUESTIONS, handlers):
        answer = await door.call("GET", "/v1/domains/Example.COM.")

    assert (answer.status, answer.json) == (
        200,
        {"domain": "example.com", "status": "catch-all", "delivered": 1001, "bounced": 0},
    )


async def test_a_question_that_nobody_answers_is_a_503(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """The asker is not kept longer than the time set."""
    await declare(vhost)
    quick = settings(vhost, tmp_path, gateway_answer_seconds=0.3)
    async with service.serving(quick, asyncio.Event()) as port:
        door = await Door(http, f"http://127.0.0.1:{port}").registered("shop")
        begun = time.monotonic()
        answer = await door.call("GET", "/v1/domains/one.example")

    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert time.monotonic() - begun < 3


async def test_a_body_that_does_not_come_is_not_waited_for(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """A client that sends half of its body and stops gets a 408, and the connection is closed."""
    impatient = settings(vhost, tmp_path, gateway_body_seconds=0.3)
    async with service.serving(impatient, asyncio.Event()) as port:
        door = await Door(http, f"http://127.0.0.1:{port}").registered("shop")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Authorization: Bearer {door.key}\r\nContent-Length: 100\r\n\r\n{{".encode()
        )
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
        writer.close()

    assert b" 408 " in head.splitlines()[0]
    assert b"connection: close" in head.lower()


async def test_stopping_answers_what_is_under_way(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """SIGTERM: no more connections, waits end with what is true, nothing accepted is lost."""
    await declare(vhost)
    stop, sender = asyncio.Event(), Behind()
    async with behind(vhost, TRANSACTIONAL, sender.mail):
        async with service.serving(settings(vhost, tmp_path), stop) as port:
            door = await Door(http, f"http://127.0.0.1:{port}").registered("shop")
            asking = asyncio.create_task(door.post("/v1/messages", MAIL, {"Prefer": "wait=30"}))
            async with asyncio.timeout(10):
                await sender.asked.wait()
            begun = time.monotonic()
            stop.set()
        answer = await asking

    assert time.monotonic() - begun < 10
    assert (answer.status, answer.json) == (202, {"id": sender.got[0].id, "status": "accepted"})
    with pytest.raises(aiohttp.ClientConnectorError):
        await door.call("GET", "/ping")


@pytest.mark.restarts
async def test_a_broker_that_is_away_is_a_503_and_its_return_is_noticed(
    door: Door, vhost: str, rabbit: Node
) -> None:
    """Never a 202, never a hang, and no restart of the gateway when the broker is back."""
    assert (await door.post("/v1/messages", MAIL)).status == 202
    await asyncio.to_thread(rabbit.kill)
    try:
        begun = time.monotonic()
        answers = await asyncio.gather(
            *(door.post("/v1/messages", MAIL, {"Prefer": f"wait={n}"}) for n in (0, 0, 20)),
            door.post("/v1/otp/verify", {"email": "a@x.example", "code": "1"}),
            door.call("PUT", "/v1/events/one.example/delivered"),
        )
        waited = time.monotonic() - begun
        ready = await door.call("GET", "/readyz")
    finally:
        await asyncio.to_thread(rabbit.start)

    assert [answer.status for answer in answers] == [503] * 5
    assert all("Retry-After" in answer.headers for answer in answers)
    assert waited < 8
    assert (ready.status, ready.json["checks"]["broker"]) == (503, False)
    async with asyncio.timeout(20):
        while (await door.post("/v1/messages", MAIL)).status != 202:
            pass
    # Refused messages may be there as well: after a 503 it is not known.
    assert await depth(vhost, TRANSACTIONAL) >= 2
