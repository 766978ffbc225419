"""Senders with real claims, and a relay with the replies of a test."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from services.sender.handlers import SendHandler, Smtp
from services.sender.mail.builder import MailBuilder
from services.sender.mail.compose import MailDefaults, OutgoingMail
from services.sender.outcome import NotAttempted, Replies, Unsendable
from services.sender.schedule import RetrySchedule
from services.sender.store import ClaimStore
from shared.contracts import Contract, Reply, SendEmail, Stage
from shared.replies import reply as replies
from shared.retry import Reschedule
from shared.return_path import ReturnPaths
from shared.runtime.sealing import AddressHasher, Sealer
from tests.sender.commands import NOW
from tests.sender.keys import SIGNER

SEALING_KEY = "5e" * 32
SUPPRESSION_KEY = "5a" * 32
HASHER = AddressHasher.from_text(SUPPRESSION_KEY)
RETURN_PATHS = ReturnPaths.from_text("bounce.our.example", "b0" * 32)
SEALER = Sealer([b"k" * 32])
DEFAULTS = MailDefaults("post@our.example", "our.example")
SIGNING = MailBuilder(SEALER.open, DEFAULTS, {"our.example": SIGNER})
ACCEPTED = replies.received(Stage.DOT, 250, "2.0.0 Queued")


def environment(url: str, data_dir: Path, smtp_port: int, **more: str) -> Mapping[str, str]:
    """Return the variables of a sender whose relay listens on this machine."""
    return {
        "AMQP_URL": url,
        "DATA_DIR": str(data_dir),
        "SENDER_SMTP_HOST": "127.0.0.1",
        "SENDER_SMTP_PORT": str(smtp_port),
        "SENDER_SMTP_TLS": "none",
        "SENDER_FROM": "post@our.example",
        "SEALING_KEY": SEALING_KEY,
        "SUPPRESSION_KEY": SUPPRESSION_KEY,
        **more,
    }


@dataclass
class Relay:
    """A relay with one reply to every mail, or the reply of a recipient in `special`.

    A mail that is `held` gets no answer, neither before nor after its content `went`.
    """

    answer: Reply | Unsendable | NotAttempted = ACCEPTED
    special: dict[str, Reply] = field(default_factory=dict)
    held: bool = False
    went: bool = False
    mails: list[OutgoingMail] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, mail: OutgoingMail) -> Replies | Unsendable | NotAttempted:
        """Return the reply for each recipient."""
        self.mails.append(mail)
        if self.held:
            mail.progress.content_begun = self.went
            self.begun.set()
            await asyncio.Event().wait()
        if isinstance(self.answer, Unsendable | NotAttempted):
            return self.answer
        return {each: self.special.get(each, self.answer) for each in mail.recipients}


class Broken:
    """A relay that fails as a defect would."""

    async def send(self, mail: OutgoingMail) -> Replies:
        """Fail."""
        raise ZeroDivisionError(mail.sender)


def a_sender(
    smtp: Smtp,
    claims: ClaimStore,
    now: datetime = NOW,
    *,
    retries_uncertain: bool = True,
    return_paths: ReturnPaths | None = None,
) -> SendHandler:
    """Build a sender whose clock stands still."""
    return SendHandler(
        smtp=smtp,
        builder=MailBuilder(SEALER.open, DEFAULTS, {}, return_paths),
        claims=claims,
        now=lambda: now,
        schedule=RetrySchedule(15, 3600, 86_400, retries_uncertain=retries_uncertain),
    )


def kinds(told: Sequence[Contract | Reschedule]) -> list[type]:
    """Return the types of what a handler has returned."""
    return [type(item) for item in told]


def later(told: Sequence[Contract | Reschedule]) -> list[tuple[float, int, tuple[str, ...] | None]]:
    """Return what is rescheduled: after how long, which attempt, for whom."""
    return [
        (item.seconds, item.message.attempt, item.message.pending)
        for item in told
        if isinstance(item, Reschedule) and isinstance(item.message, SendEmail)
    ]
