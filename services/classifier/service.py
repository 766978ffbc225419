"""The wiring of the classifier."""

import asyncio
import gc
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from services.classifier.cache import Cache
from services.classifier.catalogue import Catalogue
from services.classifier.config import ClassifierSettings
from services.classifier.handlers import EventHandlers, QueryHandlers
from services.classifier.record import Record
from services.classifier.revision import Revision
from services.classifier.store import EvidenceStore
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
)
from shared.runtime import health, lifecycle
from shared.storage.database import Database

MIGRATIONS = Path(__file__).parent / "migrations"
EVENTS = (EmailDelivered, EmailBounced, FeedbackReported)
# With the broker's next batch on its way while this one is counted. Of reports of a thousand events
# they are 84 MB at most.
EVENTS_AT_ONCE = 768
QUESTIONS_AT_ONCE = 32
# More than the objects of two batches, one handled and one read: some two an event, and no cycles.
# To look at all of them takes a tenth of a second, in which nobody is answered.
COLLECT_OBJECTS = 1_000_000
# Large batches of rows that are far apart change half as much in one transaction; what does not fit
# is written to the log early, and read again.
CACHE_KIBIBYTES = 64 << 10
# A question waits for no longer of a thread that counts, and that thread at each of its statements;
# Python's is 5 ms. With a shorter one small batches cost a fifth more, in changes of threads.
SWITCH_SECONDS = 0.0002


async def run(settings: ClassifierSettings, stop: asyncio.Event) -> None:
    """Count evidence and answer questions until `stop` is set."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(COLLECT_OBJECTS)
    url, folder = settings.database_url, settings.data_dir
    rule = settings.rule
    async with (
        Broker.connect(settings.amqp_url, settings.service) as broker,
        # On one connection a question would come after the megabytes of a batch.
        Broker.connect(settings.amqp_url, settings.service) as asked,
        Database.open(settings.service, url, folder, MIGRATIONS, cache=CACHE_KIBIBYTES) as database,
    ):
        store = EvidenceStore(database, rule)
        purge = partial(store.purge, settings.classifier_remember)
        revise = Revision(database, rule, broker.publish).run
        cache: Cache[Record] = Cache(settings.classifier_cache_seconds, time.monotonic)
        oracle = QueryHandlers(Catalogue(database), rule, cache)
        checks = {"broker": broker.ready, "questions": asked.ready, "database": database.ready}
        async with (
            lifecycle.repeating(purge, settings.classifier_purge_seconds, "purge"),
            lifecycle.repeating(revise, settings.classifier_purge_seconds, "revise"),
            broker.consuming(_events(store), drain=settings.drain_seconds),
            asked.consuming(_questions(oracle), drain=settings.drain_seconds),
            health.endpoint(settings.health_host, settings.health_port, checks),
        ):
            await stop.wait()


def _events(store: EvidenceStore) -> Subscription:
    handlers = EventHandlers(store, partial(datetime.now, UTC))
    return Subscription(topology.EVIDENCE, dict.fromkeys(EVENTS, handlers.on_event), EVENTS_AT_ONCE)


def _questions(oracle: QueryHandlers) -> Subscription:
    return Subscription(
        topology.CLASSIFIER_QUESTIONS,
        {
            DescribeDomain: oracle.on_describe_domain,
            ListDomains: oracle.on_list_domains,
            CountDomains: oracle.on_count_domains,
        },
        QUESTIONS_AT_ONCE,
        limit=topology.QUESTION_SECONDS,
        retries=False,
    )
