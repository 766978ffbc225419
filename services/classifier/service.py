"""The wiring of the classifier."""

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from services.classifier.config import ClassifierSettings
from services.classifier.evidence import Rule
from services.classifier.handlers import Classifier
from services.classifier.store import EvidenceStore
from shared import health, periodic, topology
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import (
    DescribeDomain,
    EmailBounced,
    EmailDelivered,
    FeedbackBounced,
    FeedbackDelivered,
)
from shared.database import Database

MIGRATIONS = Path(__file__).parent / "migrations"
EVENTS_AT_ONCE = 64
QUESTIONS_AT_ONCE = 32


async def run(settings: ClassifierSettings, stop: asyncio.Event) -> None:
    """Count evidence and answer questions until `stop` is set."""
    url, folder = settings.database_url, settings.data_dir
    rule = Rule(settings.classifier_threshold)
    async with (
        Broker.connect(settings.amqp_url, settings.service) as broker,
        Database.open(settings.service, url, folder, MIGRATIONS) as database,
    ):
        store = EvidenceStore(database, rule)
        purge = partial(store.purge, settings.classifier_remember)
        subscriptions = _subscriptions(Classifier(store, rule))
        checks = {"broker": broker.ready, "database": database.ready}
        async with (
            periodic.repeating(purge, settings.classifier_purge_seconds, "purge"),
            broker.consuming(*subscriptions, drain=settings.drain_seconds),
            health.endpoint(settings.health_host, settings.health_port, checks),
        ):
            await stop.wait()


def _subscriptions(classifier: Classifier) -> Sequence[Subscription]:
    return (
        Subscription(
            topology.EVIDENCE,
            {
                EmailDelivered: classifier.on_email_delivered,
                EmailBounced: classifier.on_email_bounced,
                FeedbackDelivered: classifier.on_feedback_delivered,
                FeedbackBounced: classifier.on_feedback_bounced,
            },
            EVENTS_AT_ONCE,
        ),
        Subscription(
            topology.CLASSIFIER_QUESTIONS,
            {DescribeDomain: classifier.on_describe_domain},
            QUESTIONS_AT_ONCE,
            limit=topology.QUESTION_SECONDS,
            keeps_failures=False,
        ),
    )
