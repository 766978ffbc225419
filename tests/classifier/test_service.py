"""The classifier whole, on a real broker: from the events to the answer."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ops.broker import RabbitServer as Node
from services.classifier import service
from services.classifier.config import ClassifierSettings
from shared import topology
from shared.broker import Broker
from shared.contracts import (
    Category,
    CountDomains,
    DescribeDomain,
    DomainClassified,
    DomainDescribed,
    DomainsCounted,
    DomainsListed,
    EmailBounced,
    EmailDelivered,
    FeedbackReported,
    Kind,
    ListDomains,
    ReplyClass,
    Sighting,
    Verdict,
    decode,
)
from shared.rabbitmq import declare
from tests.serving import serving
from tests.tap import Tap, depth, tapped
from tests.waiting import PATIENCE_SECONDS

AT = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
async def settings(vhost: str, tmp_path: Path) -> ClassifierSettings:
    """Declare the queues in a vhost of its own; return the settings of a service there."""
    await declare(vhost, topology.EXCHANGES, topology.queues(scale=0.01))
    return ClassifierSettings(amqp_url=vhost, data_dir=tmp_path, classifier_threshold=10)


running = partial(serving, service.run)


def delivery(number: int) -> EmailDelivered:
    """Return a delivery of our own."""
    return EmailDelivered(
        id=f"e-{number}",
        at=AT,
        email_id=f"m-{number}",
        category=Category.BULK,
        recipient=f"user{number}@example.com",
        attempt=1,
    )


def bounce(number: int) -> EmailBounced:
    """Return a bounce of our own that says "no such mailbox"."""
    return EmailBounced(
        id=f"e-{number}",
        at=AT,
        email_id=f"m-{number}",
        category=Category.BULK,
        recipient="nobody@example.com",
        attempt=1,
        reply_class=ReplyClass.MAILBOX_UNKNOWN,
    )


async def announced(tap: Tap) -> DomainClassified:
    """Wait for the next change of a verdict."""
    message = await tap.next()
    change = decode(message.type or "", message.body)
    assert isinstance(change, DomainClassified)
    return change


async def described(broker: Broker, delivered: int) -> DomainDescribed:
    """Ask until so many deliveries are counted."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            question = DescribeDomain(id="q-1", domain="example.com")
            answer = await broker.ask(question, within=PATIENCE_SECONDS)
            assert isinstance(answer, DomainDescribed)
            if answer.delivered >= delivered:
                return answer


async def test_from_the_events_to_the_answer(
    settings: ClassifierSettings, database_url: str | None
) -> None:
    """Events of both kinds, each twice, are counted once; each change of verdict is announced."""
    settings = settings.model_copy(update={"database_url": database_url})
    sightings = [
        Sighting(id=f"s-{number}", domain="EXAMPLE.com", kind=Kind.DELIVERED, at=AT)
        for number in range(5)
    ]
    events = [
        *(delivery(number) for number in range(5)),
        FeedbackReported(id="f-1", at=AT, sightings=tuple(sightings[:3])),
        FeedbackReported(id="f-2", at=AT, sightings=tuple(sightings[2:])),
    ]
    async with (
        running(settings),
        Broker.connect(settings.amqp_url, "gateway") as broker,
        tapped(settings.amqp_url, topology.EVENTS, "domain.classified") as tap,
    ):
        await asyncio.gather(*(broker.publish(event) for event in (*events, *events)))
        exactly = await described(broker, 10)
        await broker.publish(delivery(5))
        more = await announced(tap)
        await broker.publish(bounce(6))
        refused = await announced(tap)
        end = await described(broker, 11)
        page = await broker.ask(ListDomains(id="q-2", status=end.status), within=PATIENCE_SECONDS)
        sums = await broker.ask(CountDomains(id="q-3"), within=PATIENCE_SECONDS)
        assert tap.empty()

    assert isinstance(page, DomainsListed)
    assert [each.domain for each in page.domains] == ["example.com"]
    assert isinstance(sums, DomainsCounted)
    assert (sums.total, sums.delivered, sums.bounced) == (1, 11, 1)
    assert (exactly.status, exactly.delivered) == (Verdict.UNKNOWN, 10)
    assert more.status == Verdict.CATCH_ALL
    assert refused.status == Verdict.NOT_CATCH_ALL
    assert (end.status, end.delivered, end.bounced) == (Verdict.NOT_CATCH_ALL, 11, 1)


async def test_a_restart_forgets_nothing(settings: ClassifierSettings) -> None:
    """A restart keeps the counts, and copies of events counted before still do not count."""
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


async def test_one_bad_message_harms_no_other(settings: ClassifierSettings, vhost: str) -> None:
    """An outcome without a domain becomes a dead letter; its neighbours are counted."""
    bad = delivery(1).model_copy(update={"id": "bad", "recipient": "nobody"})
    async with Broker.connect(settings.amqp_url, "gateway") as broker:
        await asyncio.gather(
            *(broker.publish(event) for event in (delivery(1), bad, delivery(2), delivery(3)))
        )
        async with running(settings):
            answer = await described(broker, 3)

    assert answer.delivered == 3
    assert await depth(vhost, topology.dead_queue(topology.EVIDENCE)) == 1


async def test_another_rule_judges_the_domains_again(settings: ClassifierSettings) -> None:
    """After a restart with a lower threshold the verdicts follow it, and are announced."""
    async with (
        Broker.connect(settings.amqp_url, "gateway") as broker,
        tapped(settings.amqp_url, topology.EVENTS, "domain.classified") as tap,
    ):
        async with running(settings):
            await broker.publish(delivery(1))
            await described(broker, 1)
        async with running(settings.model_copy(update={"classifier_threshold": 0})):
            change = await announced(tap)

    assert (change.domain, change.status) == ("example.com", Verdict.CATCH_ALL)


async def test_a_question_does_not_come_after_events(
    settings: ClassifierSettings, rabbit: Node
) -> None:
    """Questions have a connection of their own, and do not wait for megabytes of events."""
    vhost = urlsplit(settings.amqp_url).path.removeprefix("/")
    by_queue: dict[str, set[str]] = {}
    async with running(settings), asyncio.timeout(PATIENCE_SECONDS):
        while not {topology.EVIDENCE, topology.CLASSIFIER_QUESTIONS} <= by_queue.keys():
            ask = rabbit.address.management.request
            found = await asyncio.to_thread(ask, "GET", f"/consumers/{vhost}")
            assert isinstance(found, list)
            for each in found:
                # A consumer is listed before it is known whose it is.
                if channel := each["channel_details"]:
                    names = by_queue.setdefault(each["queue"]["name"], set())
                    names.add(channel["connection_name"])

    assert by_queue[topology.EVIDENCE].isdisjoint(by_queue[topology.CLASSIFIER_QUESTIONS])
