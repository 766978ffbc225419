"""The wiring of the classifier."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from services.classifier.config import ClassifierSettings
from services.classifier.handlers import EventHandlers, QueryHandlers
from services.classifier.store.counting import EvidenceStore
from services.classifier.store.reader import DomainReader
from services.classifier.store.reclassify import Reclassifier
from shared import topology
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import (
    CountDomains,
    DescribeDomain,
    EmailBounced,
    EmailDelivered,
    FeedbackReported,
    ListDomains,
    ReportBounced,
)
from shared.runtime import health, lifecycle
from shared.storage.database import Database
from shared.storage.sqlite import BATCHES_CACHE_KIBIBYTES

MIGRATIONS = Path(__file__).parent / "migrations"
EVENTS = (EmailDelivered, EmailBounced, ReportBounced, FeedbackReported)
# With the broker's next batch on its way while this one is counted. Of reports of a thousand events
# they are 84 MB at most.
MAX_EVENTS_IN_FLIGHT = 768
MAX_GROUP_SIZE = 128
MAX_QUESTIONS_IN_FLIGHT = 32


async def run(settings: ClassifierSettings, stop: asyncio.Event) -> None:
    """Count evidence and answer questions until `stop` is set."""
    lifecycle.expect_batches()
    url, folder = settings.database_url, settings.data_dir
    rule = settings.rule
    async with (
        Broker.connect(settings.amqp_url, settings.service) as broker,
        # On one connection a question would wait for the megabytes of a batch.
        Broker.connect(settings.amqp_url, settings.service) as asked,
        Database.open(
            settings.service, url, folder, MIGRATIONS, cache=BATCHES_CACHE_KIBIBYTES
        ) as database,
    ):
        store = EvidenceStore(database, rule)
        purge = partial(store.purge, settings.classifier_remember)
        reclassify = Reclassifier(database, rule, broker.publish).run
        reader = DomainReader(database, settings.classifier_cache_seconds)
        events = EventHandlers(store, partial(datetime.now, UTC))
        questions = QueryHandlers(reader, rule)
        checks = {"broker": broker.ready, "questions": asked.ready, "database": database.ready}
        async with (
            lifecycle.repeating(purge, settings.classifier_purge_seconds, "purge"),
            lifecycle.repeating(reclassify, settings.classifier_purge_seconds, "reclassify"),
            broker.consuming(_events(events), drain=settings.drain_seconds),
            asked.consuming(_questions(questions), drain=settings.drain_seconds),
            health.endpoint(settings.health_host, settings.health_port, checks),
        ):
            await stop.wait()


def _events(handlers: EventHandlers) -> Subscription:
    return Subscription(
        topology.EVIDENCE,
        dict.fromkeys(EVENTS, handlers.on_event),
        MAX_EVENTS_IN_FLIGHT,
        group_size=MAX_GROUP_SIZE,
    )


def _questions(handlers: QueryHandlers) -> Subscription:
    return Subscription.to_questions(
        topology.CLASSIFIER_QUESTIONS,
        {
            DescribeDomain: handlers.on_describe_domain,
            ListDomains: handlers.on_list_domains,
            CountDomains: handlers.on_count_domains,
        },
        MAX_QUESTIONS_IN_FLIGHT,
    )
