"""A mail through all processes, and what its provider's webhooks then say of it.

And kill -9 of the gateway that takes them, while the provider tries again and again.
"""

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
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
from tests.journeys.stack import Stack, fresh_environ, running
from tests.journeys.test_kill import STEPS, Killer, Replica
from tests.journeys.user import User
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

ANN = "ann@feedback.example"
MAILS = 12  # that bounce while a gateway is killed
AT_ONCE = 6  # requests of the provider
REPORTED = {"reported": 1, "unknown": 0, "ignored": 0}
# Each request has one question and one report; a confirm may be of all that are under way.
KILLS = {
    name: replace(
        step,
        marker=step.marker.replace(b"messages", b"feedback").replace(b"202", b"200"),
        before=1 if step.before < AT_ONCE else AT_ONCE,
    )
    for name, step in STEPS.items()
}


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
            assert await told(user, "postmark", delivered) == REPORTED
            assert await history(user, email_id, 2) == [
                ("delivered", None),
                ("delivered", "postmark"),
            ]
            assert await told(user, "postmark", bounced) == REPORTED
            assert await told(user, "mailgun", mailgun(same, seconds=int(time.time()))) == REPORTED
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


async def bounce_of(user: User, to: str) -> ProviderRequest:
    """Return what Postmark sends of a mail that has arrived and bounces later."""
    (mail,) = await user.wait_for_mails(to, within=PATIENCE_SECONDS)
    metadata = {"postrider": mail["headers"]["Message-ID"]}
    refused = f"smtp;{UNKNOWN_USER}"
    return postmark(
        postmark_bounce("HardBounce", refused, Email=to, Metadata=metadata, BouncedAt=now())
    )


async def insist(user: User, asked: ProviderRequest) -> None:
    """Send a request as a provider does, until it is taken."""

    async def is_taken() -> bool:
        headers = {"Content-Type": "application/json", **asked.headers}
        try:
            answer = await user.ask("POST", "/v1/feedback/postmark", asked.body, headers=headers)
        except aiohttp.ClientError:
            return False
        assert answer.status in {200, 503}, answer
        assert answer.status == 503 or answer.body == REPORTED
        return answer.status == 200

    await until(is_taken, within=2 * PATIENCE_SECONDS)


@pytest.mark.parametrize("name", KILLS)
async def test_each_bounce_counts_once_wherever_the_gateway_dies(
    stack: Stack, user: User, name: str
) -> None:
    """After kill -9 at any step each bounce is in the history and in the evidence, once."""
    step, domain = KILLS[name], f"{name.replace(' ', '-')}.feedback.example"
    addresses = [f"m{number}@{domain}" for number in range(MAILS)]
    ids = [(await user.send(each)).body["id"] for each in addresses]
    bounces = [await bounce_of(user, each) for each in addresses]
    for each in ids:
        assert await history(user, each, 1) == [("delivered", None)]
    async with (
        Replica.beside(stack, GATEWAY_POSTMARK_LOGIN=LOGIN) as replica,
        AsyncExitStack() as opened,
        replica.user() as provider,
    ):
        first = await opened.enter_async_context(replica.running())
        proxy = replica.amqp if step.where == "amqp" else replica.http
        proxy.watch = Killer(step, first.pid).watch
        free = asyncio.Semaphore(AT_ONCE)

        async def report(asked: ProviderRequest) -> None:
            async with free:
                await insist(provider, asked)

        reporting = asyncio.gather(*map(report, bounces))
        async with asyncio.timeout(2 * PATIENCE_SECONDS):
            code = await first.wait()
        await opened.enter_async_context(replica.running())
        await reporting
        # A report comes again long after it was taken.
        await insist(provider, bounces[0])

    async def counts() -> tuple[int, int]:
        described = (await user.ask("GET", f"/v1/domains/{domain}")).body
        return described["bounced"], described["delivered"]

    async def are_counted(bounced: int, delivered: int) -> bool:
        return sum(await counts()) >= bounced + delivered

    await until(lambda: are_counted(MAILS, MAILS))
    # A later mail has passed the ledger and the classifier: no second bounce is on its way.
    later = (await user.send(f"later@{domain}")).body["id"]
    await history(user, later, 1)
    await until(lambda: are_counted(MAILS, MAILS + 1))

    assert code == -signal.SIGKILL
    assert await counts() == (MAILS, MAILS + 1)
    expected = [("delivered", None), ("bounced", "postmark")]
    assert [await history(user, each, 2) for each in ids] == [expected] * MAILS
