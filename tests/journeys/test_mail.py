"""One mail, from HTTP or AMQP to the mailbox, and its outcome."""

import asyncio
import json
from email import message_from_bytes, policy

import aio_pika
import pytest

from shared import topology
from tests.journeys.stack import Stack
from tests.journeys.user import User
from tests.tap import tapped

pytestmark = [pytest.mark.journey, pytest.mark.timeout(180)]


async def test_a_mail_arrives_as_it_was_sent(user: User) -> None:
    """POST returns 202 with id and Location; the mail arrives whole, without Bcc."""
    answer = await user.send(
        "Ada Löwe <ada@mail.example>",
        subject="Grüße aus 東京",
        html="<p>It <b>works</b>.</p>",
        cc=["cc@mail.example"],
        bcc="bcc@mail.example",
        reply_to="help@mail.example",
    )
    (mail,) = await user.wait_for_mails("ada@mail.example")
    (hidden,) = await user.wait_for_mails("bcc@mail.example")

    assert answer.status == 202
    assert answer.body["status"] == "accepted"
    assert answer.headers["Location"] == f"/v1/messages/{answer.body['id']}"
    assert mail["subject"] == "Grüße aus 東京"
    assert mail["text"].strip() == "It works."
    assert "<b>works</b>" in mail["html"]
    assert answer.body["id"] in mail["headers"]["Message-ID"]
    assert "bcc@mail.example" not in json.dumps(hidden["headers"])


async def test_an_invitation_arrives_as_a_form_of_the_text(user: User) -> None:
    """An invitation is the last part of multipart/alternative, with its method, beside a file."""
    invitation = (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//shop.example//EN\r\nMETHOD:REQUEST\r\n"
        "BEGIN:VEVENT\r\nUID:17@shop.example\r\nSUMMARY:Grüße\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )

    await user.send(
        "invited@mail.example",
        html="<p>Lunch?",
        calendar={"method": "REQUEST", "content": invitation},
        attachments=[{"filename": "menu.txt", "content": "VGVh"}],
    )
    (mail,) = await user.wait_for_mails("invited@mail.example")
    message = message_from_bytes(await user.source(mail), policy=policy.default)
    forms, file = message.iter_parts()
    text, html, calendar = forms.iter_parts()

    assert message.get_content_type() == "multipart/mixed"
    assert forms.get_content_type() == "multipart/alternative"
    assert [each.get_content_type() for each in (text, html, file)] == [
        *("text/plain", "text/html", "application/octet-stream")
    ]
    assert calendar["Content-Type"] == 'text/calendar; charset="utf-8"; method="REQUEST"'
    assert calendar.get_content_disposition() is None
    assert calendar.get_content().splitlines() == invitation.splitlines()


async def test_a_mail_requested_many_times_by_one_key_arrives_once(user: User) -> None:
    """Requests with one key have one id and one outcome; a 409 is asked again."""
    mail = {"to": "once@mail.example", "subject": "s", "text": "t"}
    once = {"Idempotency-Key": "once", "Prefer": "wait=20"}

    answers = await asyncio.gather(
        *(user.ask("POST", "/v1/messages", mail, headers=once) for _ in range(50))
    )
    later = await user.ask("POST", "/v1/messages", mail, headers=once)
    unwaited = await asyncio.gather(
        *(
            user.ask("POST", "/v1/messages", mail, headers={"Idempotency-Key": "once"})
            for _ in range(50)
        )
    )

    assert {answer.status for answer in answers} <= {200, 409}
    answered = [answer for answer in answers if answer.status == 200]
    assert answered
    assert later.status == 200
    assert all(answer.body == later.body for answer in answered)
    assert {(each.status, each.body["id"]) for each in unwaited} == {(202, later.body["id"])}
    assert later.body["recipients"][0]["outcome"] == "delivered"
    assert len(await user.mails("once@mail.example")) == 1


async def test_a_client_that_waits_gets_the_outcome(user: User) -> None:
    """With `Prefer: wait` the answer is 200 with the final outcome of each recipient."""
    answer = await user.ask(
        "POST",
        "/v1/messages",
        {
            "to": ["waits@mail.example", "reply-rcpt-550-5-1-1@mail.example"],
            "subject": "s",
            "text": "t",
        },
        headers={"Prefer": "wait=10"},
    )
    outcomes = {each["recipient"]: each["outcome"] for each in answer.body["recipients"]}

    assert answer.status == 200
    assert outcomes == {
        "waits@mail.example": "delivered",
        "reply-rcpt-550-5-1-1@mail.example": "bounced",
    }


async def test_a_greylisted_mail_comes_back_by_itself(user: User) -> None:
    """A mail that was deferred with 451 is retried, and delivered once."""
    await user.send("greylist-1@mail.example", category="otp")

    mails = await user.wait_for_mails("greylist-1@mail.example")

    assert len(mails) == 1


async def test_a_mail_by_amqp_takes_the_same_path(stack: Stack, user: User) -> None:
    """Any program may publish the command and consume the outcome as an event."""
    url = stack.record["amqp_url"]
    body = {"id": "from-amqp", "to": "amqp@mail.example", "subject": "s", "text": "t"}
    message = aio_pika.Message(
        json.dumps(body).encode(),
        type="email.send.transactional",
        message_id="from-amqp",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
    async with tapped(url, topology.EVENTS, "email.delivered") as events:
        async with await aio_pika.connect(url) as connection, connection.channel() as channel:
            exchange = await channel.get_exchange(topology.COMMANDS, ensure=False)
            await exchange.publish(message, "email.send.transactional", mandatory=True)
        event = await events.next()

    assert json.loads(event.body)["recipient"] == "amqp@mail.example"
    assert len(await user.wait_for_mails("amqp@mail.example")) == 1


async def test_a_revoked_key_is_refused_at_once(stack: Stack, user: User) -> None:
    """The key of a removed client is refused at once."""
    admin = stack.record["admin_token"]
    made = await user.ask("POST", "/v1/clients", {"id": "guest"}, key=admin)
    again = await user.ask("POST", "/v1/clients", {"id": "guest"}, key=admin)
    key = made.body["api_key"]
    before = await user.ask("GET", "/v1/domains/mail.example", key=key)
    gone = await user.ask("DELETE", "/v1/clients/guest", key=admin)
    after = await user.ask("GET", "/v1/domains/mail.example", key=key)

    assert [made.status, again.status, before.status, after.status] == [201, 409, 200, 401]
    assert gone.status in {200, 204}
    assert after.headers["Content-Type"].startswith("application/problem+json")


async def test_mails_sent_at_once_each_arrive_once(user: User) -> None:
    """Each accepted mail of many clients is in the mailbox once."""
    answers = await asyncio.gather(
        *(user.send(f"many+{number}@many.example") for number in range(300))
    )
    everything = [await user.wait_for_mails(f"many+{number}@many.example") for number in range(300)]

    assert {answer.status for answer in answers} == {202}
    assert {len(mails) for mails in everything} == {1}
