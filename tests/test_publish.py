"""The programs of docs/publish.md do what the page says, with no more rights than it says."""

import asyncio
import re
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ops.broker import Broker as Node
from shared import broker, topology
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
from tests.waiting import until

pytestmark = pytest.mark.rabbit

TRANSACTIONAL = topology.sending_queue(Category.TRANSACTIONAL)


async def run(
    folder: Path, marker: str, url: str, changes: Mapping[str, str] | None = None
) -> tuple[int | None, str, str]:
    """Run a Python program of the page and return its exit code, what it says and its errors."""
    program, text = folder / "program.py", block("python", marker)
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    program.write_text(text)
    async with (
        asyncio.timeout(30),
        started(program, env={"AMQP_URL": url}, stdout=PIPE, stderr=PIPE) as process,
    ):
        out, errors = await process.communicate()
    return process.returncode, out.decode(), errors.decode()


async def deliver(command: SendEmail) -> Sequence[Contract]:
    """Say of every recipient that the mail was delivered, as the sender would."""
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
    """The page's program publishes what the sender reads, and hears what became of it."""
    await broker.declare(vhost, topology.EXCHANGES, topology.queues())
    sender = Subscription(TRANSACTIONAL, {SendEmail: deliver}, prefetch=1)

    async with Broker.connect(vhost, "sender") as door, door.consuming(sender):
        code, out, errors = await run(tmp_path, "send.py", shop_url)

    assert (code, errors) == (0, "")
    kept, delivered = out.splitlines()
    assert kept.startswith("kept ")
    assert delivered == "email.delivered ann@example.org"


async def test_the_queue_does_not_stay_behind(
    vhost: str, shop_url: str, rabbit: Node, tmp_path: Path
) -> None:
    """A program that was only tried leaves nothing that fills: its queue ends without a reader."""
    await broker.declare(vhost, topology.EXCHANGES, topology.queues())
    sender = Subscription(TRANSACTIONAL, {SendEmail: deliver}, prefetch=1)
    name = urlsplit(vhost).path.removeprefix("/")

    async def is_gone() -> bool:
        queues = await asyncio.to_thread(
            rabbit.address.management.request, "GET", f"/queues/{name}"
        )
        assert isinstance(queues, list)
        return "shop.events" not in {queue["name"] for queue in queues}

    async with Broker.connect(vhost, "sender") as door, door.consuming(sender):
        code, _, errors = await run(tmp_path, "send.py", shop_url, {"86_400_000": "1_000"})
    assert (code, errors) == (0, "")
    await until(is_gone)


@pytest.mark.parametrize(
    ("language", "marker"), [("python", "send.py"), ("javascript", "send.js"), ("go", "send.go")]
)
def test_the_programs_declare_the_same_queue(language: str, marker: str) -> None:
    """A queue keeps the arguments of its first declaration: another one would be refused."""
    found = dict(re.findall(r'"(x-[a-z-]+)": +"?([a-z0-9_]+)', block(language, marker)))

    assert {name: value.replace("_", "") for name, value in found.items()} == {
        "x-queue-type": "quorum",
        "x-delivery-limit": "20",
        "x-max-length": "100000",
        "x-expires": "86400000",
    }


async def test_a_mail_that_no_queue_takes_is_told(
    vhost: str, shop_url: str, tmp_path: Path
) -> None:
    """Without a sender's queue the page's program fails instead of saying that it is kept."""
    await broker.declare(vhost, topology.EXCHANGES, [])

    code, out, errors = await run(tmp_path, "send.py", shop_url)

    assert (code, out) == (1, "")
    assert "NO_ROUTE" in errors


async def test_a_question_is_answered(vhost: str, shop_url: str, tmp_path: Path) -> None:
    """The page's program gets the answer without a queue of its own."""
    await broker.declare(vhost, topology.EXCHANGES, topology.queues())
    classifier = Subscription(
        topology.CLASSIFIER_QUESTIONS, {DescribeDomain: describe}, prefetch=1, keeps_failures=False
    )

    async with Broker.connect(vhost, "classifier") as door, door.consuming(classifier):
        code, out, errors = await run(tmp_path, "ask.py", shop_url)

    assert (code, errors) == (0, "")
    assert out.startswith("domain.described ")
    assert "'status': 'catch-all'" in out
