"""A mail through all processes, and what its provider's webhooks then say of it."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.gateway.feedback.events import ProviderRequest
from tests.gateway.feedback.samples import (
    LOGIN,
    MAILGUN_KEY,
    UNKNOWN_USER,
    Fields,
    mailgun,
    mailgun_event,
    mailgun_status,
    postmark,
    postmark_bounce,
    postmark_delivery,
)
from tests.journeys.stack import fresh_environ, running
from tests.journeys.user import User
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

ANN = "ann@feedback.example"


def now() -> str:
    """Return the time as Postmark writes it."""
    return datetime.now(UTC).isoformat()


async def told(user: User, provider: str, asked: ProviderRequest) -> Fields:
    """Send the request of a provider twice, and return the answer, which is the same."""
    answers = [
        await user.ask(
            "POST",
            f"/v1/feedback/{provider}",
            asked.body,
            headers={"Content-Type": "application/json", "Authorization": "", **asked.headers},
        )
        for _ in range(2)
    ]
    assert [each.status for each in answers] == [200, 200], answers
    first, second = (each.body for each in answers)
    assert first == second
    return dict(first)


async def history(user: User, email_id: str, count: int) -> Sequence[tuple[str, str | None]]:
    """Wait for so many entries of a history; return the status and the source of each."""

    async def entries() -> list[dict[str, Any]]:
        answer = await user.ask("GET", f"/v1/messages/{email_id}")
        (recipient,) = answer.body["recipients"] if answer.status == 200 else [{"history": []}]
        return list(recipient["history"])

    async def is_long() -> bool:
        return len(await entries()) >= count

    await until(is_long, PATIENCE_SECONDS)
    return [(each["status"], each.get("source")) for each in await entries()]


async def test_a_delivered_mail_bounces_once(run_directory: Path) -> None:
    """A provider's events reach the history of the mail, each once, and the suppression list."""
    environ = {
        "SENDER_PROVIDER": "postmark",
        "GATEWAY_POSTMARK_LOGIN": LOGIN,
        "GATEWAY_MAILGUN_KEY": MAILGUN_KEY,
    }
    directory = run_directory / "feedback"
    with running(directory, fresh_environ(directory) | environ) as stack:
        async with User.of(stack.record) as user:
            email_id = (await user.send(ANN)).body["id"]
            (mail,) = await user.wait_for_mails(ANN)
            assert await history(user, email_id, 1) == [("delivered", None)]

            # The header of the mail is what Postmark returns, and Mailgun returns the Message-ID.
            metadata = {"postrider": mail["headers"]["X-PM-Metadata-postrider"]}
            delivered = postmark(
                postmark_delivery(Recipient=ANN, Metadata=metadata, DeliveredAt=now())
            )
            refused = f"smtp;{UNKNOWN_USER}"
            bounced = postmark(
                postmark_bounce(
                    "HardBounce", refused, Email=ANN, Metadata=metadata, BouncedAt=now()
                )
            )
            message_id = mail["headers"]["Message-ID"].strip("<>")
            same = mailgun_event(
                "failed",
                recipient=ANN,
                severity="permanent",
                timestamp=time.time(),
                message={"headers": {"message-id": message_id}},
                **{"delivery-status": mailgun_status(550, "5.1.1 User unknown")},
            )
            reported = {"reported": 1, "unknown": 0, "ignored": 0}
            assert await told(user, "postmark", delivered) == reported
            assert await history(user, email_id, 2) == [
                ("delivered", None),
                ("delivered", "postmark"),
            ]
            assert await told(user, "postmark", bounced) == reported
            assert await told(user, "mailgun", mailgun(same, seconds=int(time.time()))) == reported
            entries = await history(user, email_id, 3)

            async def is_suppressed() -> bool:
                answer = await user.ask("GET", f"/v1/suppressions/{ANN}")
                return answer.status == 200

            await until(is_suppressed, PATIENCE_SECONDS)
            # A later command has passed the ledger: no second bounce is on its way there.
            later = (await user.send("bob@feedback.example")).body["id"]
            await history(user, later, 1)
            assert await history(user, email_id, 3) == entries
            described = (await user.ask("GET", f"/v1/messages/{email_id}")).body

    assert entries[:2] == [("delivered", None), ("delivered", "postmark")]
    assert entries[2:] == [("bounced", "postmark")]
    (recipient,) = described["recipients"]
    assert (recipient["status"], recipient["reply_class"]) == ("bounced", "mailbox_unknown")
