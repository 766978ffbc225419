"""The classifier whole, on a real broker: from the events to the answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.classifier import service
from services.classifier.config import ClassifierSettings
from shared import topology
from shared.broker import Broker, declare
from shared.contracts import (
    Category,
    Contract,
    DescribeDomain,
    DomainClassified,
    DomainDescribed,
    EmailBounced,
    EmailDelivered,
    FeedbackDelivered,
    ReplyClass,
    Verdict,
)

AT = datetime(2030, 1, 1, tzinfo=UTC)
SECONDS = 10.0  # to wait for what must come


@pytest.fixture
def settings(vhost: str, tmp_path: Path) -> ClassifierSettings:
    """Give the settings of a service in a vhost of its own."""
    return ClassifierSettings(amqp_url=vhost, data_dir=tmp_path, classifier_threshold=10)


@asynccontextmanager
async def running(settings: ClassifierSettings) -> AsyncIterator[None]:
    """Run the service beside the block; it must end in time when it is told to."""
    stop = asyncio.Event()
    task = asyncio.create_task(service.run(settings, stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(SECONDS):
            await task


def delivery(number: int) -> EmailDelivered:
    """Give a delivery of our own."""
    return EmailDelivered(
        id=f"e-{number}",
        at=AT,
        email_id=f"m-{number}",
        category=Category.BULK,
        recipient=f"user{number}@example.com",
        attempt=1,
    )


def bounce(number: int) -> EmailBounced:
    """Give a bounce of our own that says "no such mailbox"."""
    return EmailBounced(
        id=f"e-{number}",
        at=AT,
        email_id=f"m-{number}",
        category=Category.BULK,
        recipient="nobody@example.com",
        attempt=1,
        reply_class=ReplyClass.MAILBOX_UNKNOWN,
    )


async def announced(broker: Broker, event: Contract) -> DomainClassified:
    """Publish an event and wait for the change of verdict that its handling announces."""
    async with asyncio.timeout(SECONDS), broker.converse(event) as replies:
        change = await replies.get()
    assert isinstance(change, DomainClassified)
    return change


async def described(broker: Broker, delivered: int) -> DomainDescribed:
    """Ask until so many deliveries are counted."""
    async with asyncio.timeout(SECONDS):
        while True:
            question = DescribeDomain(id="q-1", domain="example.com")
            answer = await broker.ask(question, within=SECONDS)
            assert isinstance(answer, DomainDescribed)
            if answer.delivered >= delivered:
                return answer


async def test_from_the_events_to_the_answer(
    settings: ClassifierSettings, database_url: str | None
) -> None:
    """Events of both kinds, each twice, are counted once; each change of verdict is announced."""
    settings = settings.model_copy(update={"database_url": database_url})
    await declare(settings.amqp_url, topology.EXCHANGES, topology.queues(scale=0.01))
    events = [
        *(delivery(number) for number in range(5)),
        *(FeedbackDelivered(id=f"f-{number}", at=AT, domain="EXAMPLE.com") for number in range(5)),
    ]
    async with running(settings), Broker.connect(settings.amqp_url, "gateway") as broker:
        await asyncio.gather(*(broker.publish(event) for event in (*events, *events)))
        exactly = await described(broker, 10)
        more = await announced(broker, delivery(5))
        refused = await announced(broker, bounce(6))
        end = await described(broker, 11)

    assert (exactly.status, exactly.delivered) == (Verdict.UNKNOWN, 10)
    assert more.status == Verdict.CATCH_ALL
    assert refused.status == Verdict.NOT_CATCH_ALL
    assert (end.status, end.delivered, end.bounced) == (Verdict.NOT_CATCH_ALL, 11, 1)


async def test_a_restart_forgets_nothing(settings: ClassifierSettings) -> None:
    """What was counted before a restart is counted after it, and its copies still do not count."""
    await declare(settings.amqp_url, topology.EXCHANGES, topology.queues(scale=0.01))
    async with Broker.connect(settings.amqp_url, "gateway") as broker:
        async with running(settings):
            await broker.publish(delivery(1))
            await described(broker, 1)
        await broker.publish(delivery(1))
        await broker.publish(delivery(2))
        async with running(settings):
            await described(broker, 2)
        # The copy came before the last event, so it was handled before the service ended.
        async with running(settings):
            answer = await described(broker, 2)

    assert answer.delivered == 2
