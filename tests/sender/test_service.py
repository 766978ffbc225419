"""Tests of the whole sender between a real RabbitMQ and the simulator."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from ops import ports
from ops.simulator.behaviour import Behaviour, StageRefusals
from ops.simulator.simulator import Simulator
from services.sender import service
from services.sender.config import SenderSettings
from shared import topology
from shared.broker import Broker
from shared.contracts import (
    Category,
    EmailBounced,
    EmailDeferred,
    EmailDelivered,
    EmailExpired,
    EmailFailed,
    EmailUncertain,
    Outcome,
    decode,
)
from shared.rabbitmq import declare
from shared.runtime.sealing import Sealer
from tests.clock import Watch
from tests.sender.commands import a_command, a_file
from tests.sender.keys import PUBLIC, write_key
from tests.sender.senders import SEALING_KEY, environment
from tests.sender.verifier import signatures, verifies
from tests.serving import serving
from tests.tap import Tap, depth, publish_raw, tapped

DELAY_SCALE = 0.01
MAILS_OF_A_LOAD = 200


def settings(url: str, data_dir: Path, smtp_port: int, **more: str) -> SenderSettings:
    """Return the settings for a simulator, with short waits."""
    return SenderSettings.load(environment(url, data_dir, smtp_port, **more))


running = partial(serving, service.run)


@dataclass(frozen=True)
class World:
    """The sender's surroundings: a vhost of its own, a publisher, a tap and a relay."""

    url: str
    data_dir: Path
    broker: Broker
    events: Tap
    simulator: Simulator

    def settings(self, **more: str) -> SenderSettings:
        """Return the settings of a sender in this world."""
        return settings(self.url, self.data_dir, self.simulator.smtp_port, **more)


@pytest.fixture
async def world(vhost: str, tmp_path: Path, simulator: Simulator) -> AsyncIterator[World]:
    """Open a world with short delays."""
    await declare(vhost, topology.EXCHANGES, topology.queues(scale=DELAY_SCALE))
    async with (
        tapped(vhost, topology.EVENTS) as tap,
        Broker.connect(vhost, "test") as broker,
    ):
        yield World(vhost, tmp_path, broker, tap, simulator)


async def outcome(events: Tap) -> Outcome:
    """Wait for the next outcome."""
    message = await events.next()
    event = decode(message.type or "", message.body)
    assert isinstance(event, Outcome)
    return event


@pytest.mark.rabbit
@pytest.mark.parametrize("category", Category)
async def test_a_command_becomes_a_mail_and_an_event(world: World, category: Category) -> None:
    """A command of each class becomes a mail, and the mail an event."""
    async with running(world.settings()):
        await world.broker.publish(a_command(category=category), correlation_id="request-1")
        message = await world.events.next()

    event = decode(message.type or "", message.body)
    (mail,) = world.simulator.mailbox.find(to="anna@x.example")
    assert isinstance(event, EmailDelivered)
    assert (event.email_id, event.category, event.recipient) == (
        "mail-1",
        category,
        "anna@x.example",
    )
    assert message.correlation_id == "request-1"
    assert mail.sender == "post@our.example"
    assert mail.headers["Message-ID"] == "<mail-1@our.example>"
    assert await depth(world.url, topology.sending_queue(category)) == 0


@pytest.mark.rabbit
async def test_sealed(world: World) -> None:
    """Content sealed with the shared key is readable only in the mailbox."""
    sealer = Sealer.from_text(SEALING_KEY)
    sealed = sealer.seal(b'{"text": "123456"}', "mail-1")

    async with running(world.settings()):
        await world.broker.publish(a_command(text=None, sealed=sealed, category=Category.OTP))
        message = await world.events.next()

    assert world.simulator.mailbox.find()[0].raw.endswith(b"\r\n\r\n123456\r\n")
    assert b"123456" not in message.body


@pytest.mark.rabbit
async def test_all_that_a_mail_may_have(world: World, tmp_path: Path) -> None:
    """Files, an inline image, custom headers and lone dots arrive unchanged, and signed."""
    write_key(tmp_path / "keys" / "our.example" / "s1.pem")
    one_click = {
        "List-Unsubscribe": f"<https://our.example/u/{'t' * 300}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    command = a_command(
        text=".\n..\nGrüße.\n.\n",
        html='<p>.</p>\n.\n<img src="cid:logo">',
        attachments=(
            a_file("Größe 報告.pdf", b"\r\n.\r\n" * 1000, content_type="application/pdf"),
            a_file("logo.png", content_type="image/png", content_id="logo"),
        ),
        headers=one_click,
        category=Category.BULK,
    )

    async with running(world.settings(SENDER_DKIM_KEYS=str(tmp_path / "keys"))):
        await world.broker.publish(command)
        event = await outcome(world.events)

    (mail,) = world.simulator.mailbox.find()
    (signature,) = signatures(mail.raw)
    content = mail.content()
    assert isinstance(event, EmailDelivered)
    assert verifies(mail.raw, signature, PUBLIC[0])
    assert {name: mail.headers[name] for name in one_click} == one_click
    assert {name.lower() for name in one_click} < {*signature.names}
    assert [(file.filename, file.size) for file in content.attachments] == [
        ("logo.png", 5),
        ("Größe 報告.pdf", 5000),
    ]
    assert (content.text or "").splitlines() == [".", "..", "Grüße.", "."]


@pytest.mark.rabbit
async def test_deferred(world: World) -> None:
    """A deferred mail comes back through the delays until it is delivered, under one Message-ID."""
    world.simulator.behaviour = Behaviour(refuse=StageRefusals(connect="421 4.3.2 Busy"))

    async with running(world.settings()):
        await world.broker.publish(a_command())
        first = await outcome(world.events)
        world.simulator.behaviour = Behaviour()
        others = [await outcome(world.events)]
        while not others[-1].final:
            others.append(await outcome(world.events))

    assert isinstance(first, EmailDeferred)
    assert (first.attempt, first.retry_after) == (1, 15)
    assert isinstance(others[-1], EmailDelivered)
    assert [event.attempt for event in (first, *others)] == list(range(1, len(others) + 2))
    assert len(world.simulator.mailbox) == 1
    assert world.simulator.mailbox.find()[0].headers["Message-ID"] == "<mail-1@our.example>"


@pytest.mark.rabbit
async def test_only_the_deferred(world: World) -> None:
    """Of many recipients only those deferred are tried again."""
    clock = Watch()
    recipients = ("anna@x.example", "reply-rcpt-550-5-1-1@x.example", "greylist-60@x.example")

    async with Simulator(clock=clock) as greylisting:
        async with running(settings(world.url, world.data_dir, greylisting.smtp_port)):
            await world.broker.publish(a_command(*recipients, category=Category.OTP))
            first = [await outcome(world.events) for _ in recipients]
            clock.now += 60
            last = await outcome(world.events)
            while isinstance(last, EmailDeferred):
                last = await outcome(world.events)
        mails = [mail.recipients for mail in reversed(greylisting.mailbox.find())]

    assert {(type(event), event.recipient) for event in first} == {
        (EmailDelivered, "anna@x.example"),
        (EmailBounced, "reply-rcpt-550-5-1-1@x.example"),
        (EmailDeferred, "greylist-60@x.example"),
    }
    assert (type(last), last.recipient) == (EmailDelivered, "greylist-60@x.example")
    assert mails == [("anna@x.example",), ("greylist-60@x.example",)]


@pytest.mark.rabbit
async def test_split(world: World) -> None:
    """A recipient without room in a transaction is tried by the same attempt, without an event."""
    full = "reply-rcpt-452-4-5-3@x.example"

    async with running(world.settings(SENDER_GIVE_UP_BULK="1")):
        await world.broker.publish(a_command("anna@x.example", full, category=Category.BULK))
        outcomes = [await outcome(world.events) for _ in range(2)]

    assert [(type(event), event.recipient, event.attempt) for event in outcomes] == [
        (EmailDelivered, "anna@x.example", 1),
        (EmailExpired, full, 1),
    ]
    assert world.simulator.traffic.commands["MAIL"] == 2


@pytest.mark.rabbit
@pytest.mark.parametrize(
    ("recipient", "sender", "kind"),
    [
        ("reply-rcpt-550-5-1-1@x.example", "a@our.example", EmailBounced),
        ("reply-dot-554@x.example", "a@our.example", EmailBounced),
        ("anna@x.example", "reply-mail-550@our.example", EmailFailed),
        ("reply-rcpt-450@x.example", "a@our.example", EmailExpired),
        ("drop-after-dot@x.example", "a@our.example", EmailUncertain),
    ],
)
async def test_final(world: World, recipient: str, sender: str, kind: type[Outcome]) -> None:
    """A mail that cannot be sent ends in one final event."""
    more = {"SENDER_GIVE_UP_BULK": "1"}

    async with running(world.settings(**more)):
        await world.broker.publish(a_command(recipient, from_=sender, category=Category.BULK))
        event = await outcome(world.events)

    assert type(event) is kind
    assert event.final


@pytest.mark.rabbit
async def test_uncertain(world: World) -> None:
    """A code whose acceptance is uncertain is mailed again; both copies have one Message-ID."""
    created_at = datetime.now(UTC)  # the octets carry it
    command = a_command("drop-after-dot@x.example", category=Category.OTP, created_at=created_at)

    async with running(world.settings(SENDER_FIRST_WAIT_OTP="1")):
        await world.broker.publish(command)
        outcomes = [await outcome(world.events) for _ in range(2)]

    first, second = world.simulator.mailbox.find()[-2:]
    assert [type(event) for event in outcomes] == [EmailUncertain, EmailUncertain]
    assert not outcomes[0].final
    assert first.raw == second.raw


@pytest.mark.rabbit
async def test_poison(world: World) -> None:
    """A message that is no command is dead-lettered, and does not delay others."""
    queue = topology.sending_queue(Category.TRANSACTIONAL)

    async with running(world.settings()):
        await publish_raw(world.url, queue, b"\x00\xff", "email.send.transactional")
        await publish_raw(world.url, queue, b"{}", "email.send.transactional")
        await publish_raw(world.url, queue, b"{}", "something.else")
        await world.broker.publish(a_command())
        event = await outcome(world.events)

    assert isinstance(event, EmailDelivered)
    assert await depth(world.url, topology.dead_queue(queue)) == 3
    assert await depth(world.url, queue) == 0


@pytest.mark.rabbit
async def test_relay_away(world: World) -> None:
    """A sender whose relay is away is ready: it consumes commands, and defers them."""
    port = str(ports.unused(1)[0])
    await world.simulator.__aexit__()

    async with running(world.settings(HEALTH_PORT=port)):
        await world.broker.publish(a_command())
        event = await outcome(world.events)
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{port}/readyz") as ready,
            http.get(f"http://127.0.0.1:{port}/metrics") as measures,
        ):
            status, text = ready.status, await measures.text()

    category, relay = 'category="transactional"', f'relay="127.0.0.1:{world.simulator.smtp_port}"'
    assert isinstance(event, EmailDeferred)
    assert status == 200
    for measure in (
        f'postrider_outcomes_total{{{category},outcome="deferred",{relay}}}',
        f'postrider_refusals_total{{{category},{relay},reply_class="temporary"}}',
        f'postrider_claims_total{{{category},found="fresh"}}',
        f"postrider_attempts_total{{{category},{relay}}}",
    ):
        assert measure in text


@pytest.mark.rabbit
async def test_classes_do_not_wait(world: World) -> None:
    """A code does not wait for bulk mail that uses all connections of bulk."""
    at_once = {"DRAIN_SECONDS": "0.1", "SENDER_DRAIN_DOT_SECONDS": "0.1"}
    async with running(world.settings(**at_once)):
        for number in range(4):
            slow = a_command(
                "slow-60000-dot@x.example", id=f"bulk-{number}", category=Category.BULK
            )
            await world.broker.publish(slow)
        await world.simulator.traffic.wait_until(
            lambda: world.simulator.traffic.commands["DATA"] == 4
        )
        await world.broker.publish(a_command(category=Category.OTP))

        assert (await outcome(world.events)).category is Category.OTP


@pytest.mark.rabbit
async def test_stop_under_load(world: World) -> None:
    """After a stop and a start each mail is sent once and reported once."""
    ids = [f"mail-{number}" for number in range(MAILS_OF_A_LOAD)]
    configured = world.settings()
    await asyncio.gather(*(world.broker.publish(a_command(id=each)) for each in ids))

    async with running(configured):
        await world.simulator.mailbox.wait_for(MAILS_OF_A_LOAD // 4)
    sent_before = len(world.simulator.mailbox)
    async with running(configured):
        outcomes = [await outcome(world.events) for _ in ids]

    assert sent_before < MAILS_OF_A_LOAD
    assert len(world.simulator.mailbox) == MAILS_OF_A_LOAD
    assert Counter(event.email_id for event in outcomes) == Counter(ids)
    assert {type(event) for event in outcomes} == {EmailDelivered}


@pytest.mark.rabbit
async def test_throttled(world: World) -> None:
    """Mail beyond a domain's rate waits in the delays, without an attempt or an event."""
    rates = {"SENDER_DOMAIN_RATES": '{"x.example": 0.9}'}
    ids = [f"mail-{number}" for number in range(5)]

    async with running(world.settings(**rates)):
        await asyncio.gather(*(world.broker.publish(a_command(id=each)) for each in ids))
        outcomes = [await outcome(world.events) for _ in ids]

    assert {type(event) for event in outcomes} == {EmailDelivered}
    assert {event.attempt for event in outcomes} == {1}
    assert Counter(event.email_id for event in outcomes) == Counter(ids)


@pytest.mark.rabbit
async def test_all_relays_rest(world: World) -> None:
    """While the relay is paused mails wait without a connection, and are sent afterwards."""
    world.simulator.behaviour = Behaviour(refuse=StageRefusals(connect="554 5.7.1 Blocked"))
    ids = [f"mail-{number}" for number in range(20)]

    async with running(world.settings(SENDER_REST_SECONDS="1", SENDER_LONGEST_REST_SECONDS="1")):
        await asyncio.gather(*(world.broker.publish(a_command(id=each)) for each in ids))
        first = await outcome(world.events)
        world.simulator.behaviour = Behaviour()
        outcomes = [await outcome(world.events)]
        while sum(event.final for event in outcomes) < len(ids):
            outcomes.append(await outcome(world.events))

    assert isinstance(first, EmailDeferred)
    assert Counter(event.email_id for event in outcomes if event.final) == Counter(ids)
    assert len(world.simulator.mailbox) == len(ids)


@pytest.mark.rabbit
async def test_refused_senders(world: World) -> None:
    """Mails from senders that the relay refuses fail one by one; all others are delivered."""
    refused = {"from_": "reply-mail-553-5-7-1@x.example"}
    async with running(world.settings()):
        for number in range(12):
            await world.broker.publish(a_command(id=f"bad-{number}").model_copy(update=refused))
            await world.broker.publish(a_command(id=f"good-{number}"))
        events = [await outcome(world.events) for _ in range(24)]

    for event in events:
        good = event.email_id.startswith("good")
        assert isinstance(event, EmailDelivered if good else EmailFailed)
        assert good or event.model_dump()["reply_class"] == "auth_sender"
