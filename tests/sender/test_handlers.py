"""Tests of what the sender does with a command, with a relay that a test decides."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from structlog.testing import capture_logs

from services.sender import reply as replies
from services.sender.compose import Letterhead, Mail
from services.sender.handlers import Sender
from services.sender.outcome import Reason, Replies, Unsendable
from services.sender.schedule import Schedule
from services.sender.writer import Writer
from shared.contracts import (
    Contract,
    EmailDelivered,
    EmailExpired,
    EmailFailed,
    Outcome,
    Reply,
    Stage,
)
from shared.retry import Later
from shared.sealing import Sealer
from tests.sender.commands import NOW, a_command

SEALER = Sealer([b"k" * 32])
ACCEPTED = replies.heard(Stage.DOT, 250, "2.0.0 Queued")


@dataclass
class Relay:
    """Says the same of every mail and keeps it."""

    answer: Reply | Unsendable = ACCEPTED
    mails: list[Mail] = field(default_factory=list)

    async def send(self, mail: Mail) -> Replies | Unsendable:
        """Answer for each recipient."""
        self.mails.append(mail)
        if isinstance(self.answer, Unsendable):
            return self.answer
        return dict.fromkeys(mail.recipients, self.answer)


def a_sender(relay: Relay, now: datetime = NOW) -> Sender:
    """Build a sender that lives at one moment."""
    return Sender(
        smtp=relay,
        writer=Writer(SEALER.open, Letterhead("post@our.example", "our.example"), {}),
        now=lambda: now,
        schedule=Schedule(15, 3600, 86_400, retries_uncertain=True),
    )


def kinds(told: Sequence[Contract | Later]) -> list[type]:
    """Give what was told, by kind."""
    return [type(item) for item in told]


async def test_delivered() -> None:
    """A mail goes to all its recipients at once; each gets an event."""
    relay = Relay()

    told = await a_sender(relay).on_send_email(a_command("anna@x.example", bcc="ben@x.example"))

    assert kinds(told) == [EmailDelivered, EmailDelivered]
    assert [mail.recipients for mail in relay.mails] == [("anna@x.example", "ben@x.example")]


async def test_expired() -> None:
    """A mail past its time is not sent."""
    relay = Relay()

    told = await a_sender(relay).on_send_email(a_command(expires_at=NOW))

    assert kinds(told) == [EmailExpired]
    assert relay.mails == []


async def test_sealed() -> None:
    """A sealed mail is opened at the last moment."""
    relay = Relay()
    command = a_command(text=None, sealed=SEALER.seal(b'{"text": "123456"}', "mail-1"))

    await a_sender(relay).on_send_email(command)

    assert b"123456" in relay.mails[0].content


async def test_broken_seal() -> None:
    """A mail that nobody can open fails, and is not tried again."""
    relay = Relay()
    command = a_command(text=None, sealed=SEALER.seal(b'{"text": "123456"}', "mail-2"))

    told = await a_sender(relay).on_send_email(command)

    assert [(item.reason, item.reply) for item in told if isinstance(item, EmailFailed)] == [
        (Reason.SEAL_BROKEN, None)
    ]
    assert relay.mails == []


async def test_unsendable() -> None:
    """A mail that needs what the relay does not have fails with that reason."""
    relay = Relay(Unsendable(Reason.SMTPUTF8_NOT_OFFERED))

    told = await a_sender(relay).on_send_email(a_command("jörg@x.example"))

    assert [item.reason for item in told if isinstance(item, EmailFailed)] == [
        Reason.SMTPUTF8_NOT_OFFERED
    ]


async def test_twice() -> None:
    """Run twice, the same is mailed under the same Message-ID and told under the same ids."""
    relay = Relay()
    command = a_command(created_at=NOW)

    first = await a_sender(relay).on_send_email(command)
    second = await a_sender(relay, NOW + timedelta(hours=1)).on_send_email(command)

    assert relay.mails[0] == relay.mails[1]
    assert [item.id for item in first if isinstance(item, Outcome)] == [
        item.id for item in second if isinstance(item, Outcome)
    ]


async def test_nobody_left() -> None:
    """A command for nobody is done."""
    assert await a_sender(Relay()).on_send_email(a_command(pending=())) == []


async def test_log() -> None:
    """Logs have masked addresses, the codes, and no word of the mail."""
    relay = Relay(replies.heard(Stage.RCPT, 550, "5.1.1 anna@x.example is unknown"))

    with capture_logs() as logs:
        await a_sender(relay).on_send_email(a_command())

    assert logs == [
        {
            "event": "bounced",
            "log_level": "info",
            "recipient": "a***@x.example",
            "attempt": 1,
            "stage": Stage.RCPT,
            "code": 550,
            "enhanced": "5.1.1",
        }
    ]


async def test_warning() -> None:
    """Trouble with us is for the operator: one warning a mail, with what the server said."""
    relay = Relay(replies.heard(Stage.AUTH, 535, "5.7.8 Wrong password"))

    with capture_logs() as logs:
        await a_sender(relay).on_send_email(a_command("anna@x.example", "ben@x.example"))

    assert [entry for entry in logs if entry["log_level"] == "warning"] == [
        {
            "event": "the relay is away or refuses us",
            "log_level": "warning",
            "stage": Stage.AUTH,
            "code": 535,
            "reply": "5.7.8 Wrong password",
        }
    ]
