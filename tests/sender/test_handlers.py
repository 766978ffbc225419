"""Tests of the handler of `SendEmail`, with real claims and a relay with replies of the test."""

import asyncio
import time
from datetime import timedelta
from email.utils import format_datetime

import pytest
from structlog.testing import capture_logs

from ops.simulator.behaviour import EXTENSIONS, Behaviour, RecipientLimit
from ops.simulator.simulator import Simulator
from services.sender import metrics
from services.sender.handlers import BUSY_SECONDS, MAX_CLOCK_SKEW
from services.sender.mail.compose import OutgoingMail
from services.sender.outcome import FailureReason, NotAttempted, Replies, Unsendable
from services.sender.store import ClaimStore
from shared import inflight
from shared.contracts import (
    EmailDelivered,
    EmailExpired,
    EmailFailed,
    Outcome,
    Reply,
    ReplyClass,
    SendEmail,
    Stage,
)
from shared.inflight import Handling, Phase
from shared.replies import reply as replies
from shared.retry import Reschedule
from shared.return_path import ReturnedMail, address_hash, mail_key
from tests.sender.commands import NOW, a_command
from tests.sender.mails import a_pool, a_relay
from tests.sender.scripted import CHUNKING, HANG, scripted
from tests.sender.senders import (
    ACCEPTED,
    RETURN_PATHS,
    SEALER,
    Relay,
    a_sender,
    kinds,
    later,
)
from tests.waiting import until

ANNA, BEN = "anna@x.example", "ben@x.example"


async def test_delivered(claims: ClaimStore) -> None:
    """A mail goes to all its recipients in one transaction; each gets an event."""
    relay = Relay()

    returned = await a_sender(relay, claims).on_send_email(a_command(ANNA, bcc=BEN))

    assert kinds(returned) == [EmailDelivered, EmailDelivered]
    assert [mail.recipients for mail in relay.mails] == [(ANNA, BEN)]


@pytest.mark.parametrize(
    "answer",
    [ACCEPTED, Unsendable(FailureReason.TOO_BIG), replies.received(Stage.RCPT, 451, "4.3.2 Busy")],
)
async def test_message_id(claims: ClaimStore, answer: Reply | Unsendable) -> None:
    """An outcome has the Message-ID of its mail, which programs know from its header."""
    relay = Relay(answer)

    event, *_ = await a_sender(relay, claims).on_send_email(a_command(id="mail..1"))

    assert isinstance(event, Outcome)
    assert f"Message-ID: {event.message_id}\r\n".encode() in relay.mails[0].content
    assert event.message_id == "<mail=2E.1@our.example>"


async def test_expired(claims: ClaimStore) -> None:
    """An expired mail is not sent."""
    relay = Relay()

    returned = await a_sender(relay, claims).on_send_email(a_command(expires_at=NOW))

    assert kinds(returned) == [EmailExpired]
    assert relay.mails == []


@pytest.mark.parametrize("ahead", [MAX_CLOCK_SKEW, MAX_CLOCK_SKEW + timedelta(seconds=1)])
async def test_from_the_future(claims: ClaimStore, ahead: timedelta) -> None:
    """A mail of a clock that is ahead by more than minutes is sent, and grows old, as one of now.

    Issue 10, S6.
    """
    relay = Relay(replies.received(Stage.RCPT, 451, "4.3.2 Busy"))
    accepted = NOW + ahead
    returned = await a_sender(relay, claims).on_send_email(a_command(created_at=accepted))
    counted = accepted if ahead == MAX_CLOCK_SKEW else NOW

    assert f"Date: {format_datetime(counted)}\r\n".encode() in relay.mails[0].content
    [again] = [each.message for each in returned if isinstance(each, Reschedule)]
    assert isinstance(again, SendEmail)
    assert again.created_at == counted


async def test_expired_while_it_waited(claims: ClaimStore) -> None:
    """A mail must not be begun after its expiry; past that it is expired."""
    relay = Relay(Unsendable(FailureReason.EXPIRED))
    until = NOW + timedelta(seconds=1)

    returned = await a_sender(relay, claims).on_send_email(a_command(expires_at=until))

    assert [mail.not_after for mail in relay.mails] == [until]
    assert kinds(returned) == [EmailExpired]


async def test_sealed(claims: ClaimStore) -> None:
    """Sealed content is unsealed for the mail, and is in no event."""
    relay = Relay()
    command = a_command(text=None, sealed=SEALER.seal(b'{"text": "123456"}', "mail-1"))

    await a_sender(relay, claims).on_send_email(command)

    assert b"123456" in relay.mails[0].content


async def test_broken_seal(claims: ClaimStore) -> None:
    """A mail whose seal is broken fails, and is not tried again."""
    relay = Relay()
    command = a_command(text=None, sealed=SEALER.seal(b'{"text": "123456"}', "mail-2"))

    returned = await a_sender(relay, claims).on_send_email(command)

    assert [(item.reason, item.reply) for item in returned if isinstance(item, EmailFailed)] == [
        (FailureReason.SEAL_BROKEN, None)
    ]
    assert relay.mails == []


async def test_unsendable(claims: ClaimStore) -> None:
    """A mail that needs an extension that the relay lacks fails with that reason."""
    relay = Relay(Unsendable(FailureReason.SMTPUTF8_NOT_OFFERED))

    returned = await a_sender(relay, claims).on_send_email(a_command("jörg@x.example"))

    assert [item.reason for item in returned if isinstance(item, EmailFailed)] == [
        FailureReason.SMTPUTF8_NOT_OFFERED
    ]


async def test_postponed(claims: ClaimStore) -> None:
    """A mail whose relays may not be tried is put off; that is no attempt, and keeps no claim."""
    relay = Relay(NotAttempted(40))
    sender = a_sender(relay, claims)

    returned = await sender.on_send_email(a_command())
    relay.answer = ACCEPTED

    assert (kinds(returned), later(returned)) == ([Reschedule], [(40, 1, (ANNA,))])
    assert kinds(await sender.on_send_email(a_command())) == [EmailDelivered]


class Stopped(Relay):
    """A relay before which the process is stopped until another sender has taken over the mail."""

    def __init__(self, replica: ClaimStore) -> None:
        super().__init__()
        self._replica = replica

    async def send(self, mail: OutgoingMail) -> Replies | Unsendable | NotAttempted:
        """Lose the claim to another sender, then go on."""
        claim = await self._replica.claim(a_command())
        assert claim.orphans == (ANNA,)
        mail.progress.begin()
        return await super().send(mail)


async def test_claim_lost_before_mail(claims: ClaimStore, of_the_dead: ClaimStore) -> None:
    """A sender that has lost its claim sends and publishes nothing; the mail comes again later."""
    relay = Stopped(claims)
    lost = metrics.counter(metrics.LOST, "transactional", "mail")._value.get()

    with capture_logs() as logs:
        returned = await a_sender(relay, of_the_dead).on_send_email(a_command())

    assert relay.mails == []
    assert (kinds(returned), later(returned)) == ([Reschedule], [(BUSY_SECONDS, 1, (ANNA,))])
    assert metrics.counter(metrics.LOST, "transactional", "mail")._value.get() == lost + 1
    assert [(line["event"], line["before"]) for line in logs] == [
        ("the claim was lost to another sender", "mail")
    ]
    assert (await claims.claim(a_command())).busy == (ANNA,)


async def test_log(claims: ClaimStore) -> None:
    """Logs have masked addresses and reply codes, and no text of the mail."""
    relay = Relay(replies.received(Stage.RCPT, 550, "5.1.1 anna@x.example is unknown"))

    with capture_logs() as logs:
        await a_sender(relay, claims).on_send_email(a_command())

    assert logs == [
        {
            "event": "bounced",
            "log_level": "info",
            "recipient": "a***@x.example",
            "attempt": 1,
            "stage": Stage.RCPT,
            "code": 550,
            "enhanced": "5.1.1",
            "reply_class": ReplyClass.MAILBOX_UNKNOWN,
        }
    ]


async def test_warning(claims: ClaimStore) -> None:
    """A problem of ours is logged as one warning a mail, with the server's reply."""
    relay = Relay(replies.received(Stage.AUTH, 535, "5.7.8 Wrong password"))

    with capture_logs() as logs:
        await a_sender(relay, claims).on_send_email(a_command(ANNA, BEN))

    assert [entry for entry in logs if entry["log_level"] == "warning"] == [
        {
            "event": "the relay is away or refuses us",
            "log_level": "warning",
            "stage": Stage.AUTH,
            "code": 535,
            "reply": "5.7.8 Wrong password",
        }
    ]


async def test_one_address_that_needs_smtputf8(claims: ClaimStore, simulator: Simulator) -> None:
    """Where no relay offers SMTPUTF8 only the address that needs it fails."""
    simulator.behaviour = Behaviour(extensions=tuple(e for e in EXTENSIONS if e != "SMTPUTF8"))
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        sender = a_sender(pool, claims)
        first = await sender.on_send_email(a_command(ANNA, bcc="ü@y.example"))
        (again,) = (each.message for each in first if isinstance(each, Reschedule))
        assert isinstance(again, SendEmail)
        second = await sender.on_send_email(again)

    assert (kinds(first), kinds(second)) == ([EmailDelivered, Reschedule], [EmailFailed])
    failed = second[0]
    assert isinstance(failed, EmailFailed)
    assert (failed.recipient, failed.reason) == ("ü@y.example", FailureReason.SMTPUTF8_NOT_OFFERED)
    assert (failed.attempt, again.attempt) == (1, 1)
    (mail,) = simulator.mailbox.find()
    assert (mail.recipients, mail.raw.isascii()) == ((ANNA,), True)


@pytest.mark.parametrize(
    "reply",
    [
        "452 4.5.3 Too many recipients",
        "451 4.5.3 Too many recipients",
        "550 5.5.3 Too many recipients",
        "552 5.5.3 Too many recipients",
        "550 Too many recipients",
    ],
)
async def test_the_next_transaction(claims: ClaimStore, simulator: Simulator, reply: str) -> None:
    """Recipients without room in a transaction get the next one, which is no new attempt."""
    simulator.behaviour = Behaviour(transaction=RecipientLimit(recipients=2, reply=reply))
    everybody = [f"{name}@x.example" for name in "abcde"]
    command = a_command(*everybody)
    delivered: list[EmailDelivered] = []
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        sender = a_sender(pool, claims)
        for _ in range(3):
            returned = await sender.on_send_email(command)
            delivered += [event for event in returned if isinstance(event, EmailDelivered)]
            for item in returned:
                assert isinstance(item, EmailDelivered | Reschedule)
                if isinstance(item, Reschedule) and isinstance(item.message, SendEmail):
                    command = item.message

    assert [event.recipient for event in delivered] == everybody
    assert {event.attempt for event in delivered} == {1}
    assert [len(mail.recipients) for mail in simulator.mailbox.find()] == [1, 2, 2]


async def test_return_paths(claims: ClaimStore, simulator: Simulator) -> None:
    """Each recipient has a transaction, whose envelope sender names the mail and the recipient."""
    command = a_command(ANNA, cc=BEN, client="shop")

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        sender = a_sender(pool, claims, return_paths=RETURN_PATHS)
        returned = await sender.on_send_email(command)

    mails = sorted(simulator.mailbox.find(), key=lambda mail: mail.recipients)
    assert kinds(returned) == [EmailDelivered, EmailDelivered]
    assert [mail.recipients for mail in mails] == [(ANNA,), (BEN,)]
    assert [RETURN_PATHS.read(mail.sender, NOW.date()) for mail in mails] == [
        ReturnedMail(mail_key("mail-1", "shop"), address_hash(each), 0) for each in (ANNA, BEN)
    ]
    assert {b"From: post@our.example\r\n" in mail.raw for mail in mails} == {True}


async def test_return_paths_at_the_next_attempt(claims: ClaimStore) -> None:
    """The recipients that are to be tried again are in one command, as without return paths."""
    relay = Relay(special={ANNA: replies.received(Stage.RCPT, 451, "4.3.2 Busy")})
    sender = a_sender(relay, claims, return_paths=RETURN_PATHS)

    first = await sender.on_send_email(a_command(ANNA, BEN))
    copy = await sender.on_send_email(a_command(ANNA, BEN))

    assert [mail.recipients for mail in relay.mails] == [(ANNA,), (BEN,)]
    assert [recipients for _, _, recipients in later(first)] == [(ANNA,)]
    assert kinds(copy) == kinds(first)


async def test_return_paths_of_an_attempt_that_is_cut_off(claims: ClaimStore) -> None:
    """A recipient that was sent to before the cut gets no second mail, and its outcome comes."""
    relay = Relay()

    async def cut_off(mail: OutgoingMail) -> Replies | Unsendable | NotAttempted:
        if mail.recipients == (BEN,):
            raise ConnectionError("cut off")
        return await Relay.send(relay, mail)

    half = Relay()
    half.send = cut_off  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await a_sender(half, claims, return_paths=RETURN_PATHS).on_send_email(a_command(ANNA, BEN))
    returned = await a_sender(relay, claims, return_paths=RETURN_PATHS).on_send_email(
        a_command(ANNA, BEN)
    )

    assert [mail.recipients for mail in relay.mails] == [(ANNA,), (BEN,)]
    assert kinds(returned) == [EmailDelivered, EmailDelivered]


async def test_the_phase_of_one_write(claims: ClaimStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mail in one write with its commands is committed before any reply: an end waits for it."""
    monkeypatch.setattr("services.sender.smtp.relay.MAX_JOINED_IDLE_SECONDS", 60.0)
    handling = Handling(time.monotonic, time.monotonic())
    async with scripted(CHUNKING) as server, a_pool(a_relay(server.port)) as pool:
        sender = a_sender(pool, claims)
        await sender.on_send_email(a_command(id="first"))
        server.script["MAIL"] = HANG

        async def is_sent() -> bool:
            return server.heard["LAST"] == 2

        token = inflight.current.set(handling)
        sending = asyncio.create_task(sender.on_send_email(a_command(id="second")))
        inflight.current.reset(token)
        await until(is_sent)
        sending.cancel()
        await asyncio.wait({sending})

    assert handling.phase is Phase.COMMITTED
    # Another sender may not take it for a mail that was not sent.
    assert (await claims.claim(a_command(id="second"))).busy == (ANNA,)
