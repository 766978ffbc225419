"""The programs of docs/publish.md do what the page says, with no more rights than it says."""

import asyncio
import re
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared import rabbitmq, topology
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import (
    Category,
    Contract,
    DescribeDomain,
    DomainDescribed,
    EmailDelivered,
    SendEmail,
    Verdict,
)
from tests.processes import started
from tests.shop import block
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.rabbit

TRANSACTIONAL = topology.sending_queue(Category.TRANSACTIONAL)


async def run(
    folder: Path, marker: str, url: str, changes: Mapping[str, str] | None = None
) -> tuple[int | None, str, str]:
    """Run a Python program of the page and return its exit code, its output and its errors."""
    program, text = folder / "program.py", block("python", marker)
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    program.write_text(text)
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        started(program, env={"AMQP_URL": url}, stdout=PIPE, stderr=PIPE) as process,
    ):
        out, errors = await process.communicate()
    return process.returncode, out.decode(), errors.decode()


async def deliver(command: SendEmail) -> Sequence[Contract]:
    """Publish `email.delivered` for every recipient, as the sender would."""
    return [
        EmailDelivered(
            id=f"{command.id}-{number}",
            at=datetime.now(UTC),
            email_id=command.id,
            category=command.category,
            recipient=recipient,
            attempt=command.attempt,
        )
        for number, recipient in enumerate(command.recipients)
    ]


async def describe(question: DescribeDomain) -> Sequence[Contract]:
    """Answer as the classifier would."""
    return [
        DomainDescribed(
            id=question.id,
            domain=question.domain,
            status=Verdict.CATCH_ALL,
            delivered=1001,
            bounced=0,
        )
    ]


async def test_a_mail_is_published_and_followed(vhost: str, shop_url: str, tmp_path: Path) -> None:
    """The page's program publishes a mail to the sender, and gets its outcome."""
    await rabbitmq.declare(vhost, topology.EXCHANGES, topology.queues())
    sender = Subscription(TRANSACTIONAL, {SendEmail: deliver}, prefetch=1)

    async with Broker.connect(vhost, "sender") as connected, connected.consuming(sender):
        code, out, errors = await run(tmp_path, "send.py", shop_url)

    assert (code, errors) == (0, "")
    kept, delivered = out.splitlines()
    assert kept.startswith("kept ")
    assert delivered == "email.delivered ann@example.org"


@pytest.mark.parametrize(
    ("language", "marker"), [("python", "send.py"), ("javascript", "send.js"), ("go", "send.go")]
)
def test_the_programs_declare_nothing(language: str, marker: str) -> None:
    """A program has a queue of events by the operator's command, and no right to make one."""
    text = block(language, marker)

    assert "shop.events" in text
    assert not re.search(r"(?i)declare|assert(queue|exchange)|bind|x-[a-z]", text)


async def test_a_mail_that_no_queue_takes_is_an_error(
    vhost: str, shop_url: str, tmp_path: Path
) -> None:
    """Without a sender's queue the page's program fails."""
    await rabbitmq.declare(vhost, topology.EXCHANGES, [])

    code, out, errors = await run(tmp_path, "send.py", shop_url)

    assert (code, out) == (1, "")
    assert "NO_ROUTE" in errors


async def test_a_question_is_answered(vhost: str, shop_url: str, tmp_path: Path) -> None:
    """The page's program gets the answer without a queue of its own."""
    await rabbitmq.declare(vhost, topology.EXCHANGES, topology.queues())
    classifier = Subscription(
        topology.CLASSIFIER_QUESTIONS, {DescribeDomain: describe}, prefetch=1, retries=False
    )

    async with Broker.connect(vhost, "classifier") as connected, connected.consuming(classifier):
        code, out, errors = await run(tmp_path, "ask.py", shop_url)

    assert (code, errors) == (0, "")
    assert out.startswith("domain.described ")
    assert "'status': 'catch-all'" in out
