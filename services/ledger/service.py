"""The wiring of the ledger."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from services.ledger.announcing import RETRY_SECONDS, SuppressionAnnouncer
from services.ledger.config import LedgerSettings
from services.ledger.handlers import MailHandlers, MailQueryHandlers, SuppressionHandlers
from services.ledger.store.forgetting import AddressForgetter
from services.ledger.store.purging import LedgerPurge
from services.ledger.store.reader import MailReader
from services.ledger.store.recording import MailStore
from services.ledger.store.reported import ReportedMails
from services.ledger.store.suppressing import SuppressionStore
from services.ledger.store.totals import TotalReader
from shared import topology
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import (
    CONTRACTS,
    AcceptedEmail,
    AddSuppressions,
    AnnounceSuppressions,
    CountEmails,
    DescribeEmail,
    DescribeSuppression,
    EmailRescheduled,
    FindEmail,
    ForgetAddress,
    ListEmails,
    ListSuppressions,
    Outcome,
    RemoveSuppressions,
    Report,
)
from shared.runtime import health, lifecycle
from shared.runtime.sealing import AddressHasher
from shared.storage.database import Database
from shared.storage.sqlite import BATCHES_CACHE_KIBIBYTES

OUTCOMES = tuple(each for each in CONTRACTS if issubclass(each, Outcome | Report))
MIGRATIONS = Path(__file__).parent / "migrations"
MAX_BATCH_SIZE = 512  # records of one transaction
# With the broker's next batch on its way while this one is written.
MAX_RECORDS_IN_FLIGHT = 1280
MAX_COMMANDS_IN_FLIGHT = 4
COMMAND_SECONDS = 600.0  # for one that reads all mails or entries
MAX_QUESTIONS_IN_FLIGHT = 32
HOUR_SECONDS = 3600.0


async def run(settings: LedgerSettings, stop: asyncio.Event) -> None:
    """Record mails and answer questions until `stop` is set."""
    lifecycle.expect_batches()
    url, folder = settings.database_url, settings.data_dir
    async with (
        Broker.connect(settings.amqp_url, settings.service) as broker,
        # On one connection a question would wait for the megabytes of a batch.
        Broker.connect(settings.amqp_url, settings.service) as asked,
        Database.open(
            settings.service, url, folder, MIGRATIONS, cache=BATCHES_CACHE_KIBIBYTES
        ) as database,
    ):
        announcer = SuppressionAnnouncer(broker.publish)
        hasher = AddressHasher.from_text(settings.suppression_key)
        suppressions = SuppressionStore(
            database, hasher, settings.bounce_counts_for, announcer.wake
        )
        forgetter = AddressForgetter(database, hasher)
        changes = SuppressionHandlers(suppressions, forgetter)
        mails = MailHandlers(
            MailStore(database, random.getrandbits(32), hasher), changes.on_refused
        )
        questions = MailQueryHandlers(
            MailReader(database), ReportedMails(database), TotalReader(database)
        )
        purge = LedgerPurge(database, settings.retention)
        checks = {"broker": broker.ready, "questions": asked.ready, "database": database.ready}
        async with (
            lifecycle.repeating(purge.run, settings.ledger_purge_seconds, "purge"),
            lifecycle.repeating(
                partial(forgetter.purge, settings.ledger_message_days),
                settings.ledger_purge_seconds,
                "purge of forgotten addresses",
            ),
            _list_upkeep(suppressions, announcer, settings.ledger_purge_seconds),
            broker.consuming(_mails(mails), _commands(changes), drain=settings.drain_seconds),
            asked.consuming(_questions(questions, changes), drain=settings.drain_seconds),
            health.endpoint(settings.health_host, settings.health_port, checks),
        ):
            await stop.wait()


def _mails(handlers: MailHandlers) -> Subscription:
    return Subscription(
        topology.LEDGER_MAIL,
        {
            AcceptedEmail: handlers.on_accepted,
            EmailRescheduled: handlers.on_rescheduled,
            **dict.fromkeys(OUTCOMES, handlers.on_outcome),
        },
        MAX_RECORDS_IN_FLIGHT,
        group_size=MAX_BATCH_SIZE,
        handle_batch=handlers.on_batch,
    )


def _commands(handlers: SuppressionHandlers) -> Subscription:
    return Subscription(
        topology.LEDGER_COMMANDS,
        {
            AnnounceSuppressions: handlers.on_announce,
            ForgetAddress: handlers.on_forget,
        },
        MAX_COMMANDS_IN_FLIGHT,
        limit_seconds=COMMAND_SECONDS,
    )


def _questions(mails: MailQueryHandlers, suppressions: SuppressionHandlers) -> Subscription:
    return Subscription.to_questions(
        topology.LEDGER_QUESTIONS,
        {
            DescribeEmail: mails.on_describe_email,
            FindEmail: mails.on_find_email,
            ListEmails: mails.on_list_emails,
            CountEmails: mails.on_count_emails,
            AddSuppressions: suppressions.on_add,
            RemoveSuppressions: suppressions.on_remove,
            DescribeSuppression: suppressions.on_describe,
            ListSuppressions: suppressions.on_list,
        },
        MAX_QUESTIONS_IN_FLIGHT,
    )


@asynccontextmanager
async def _list_upkeep(
    store: SuppressionStore, announcer: SuppressionAnnouncer, purge_seconds: float
) -> AsyncIterator[None]:
    """Publish the changes of the suppression list, repeat all entries in a day, purge old ones."""
    announce = partial(announcer.run, store)
    async with (
        lifecycle.repeating(announce, RETRY_SECONDS, "changes of the suppression list"),
        lifecycle.repeating(store.announce_in_turn, HOUR_SECONDS, "copies of the suppression list"),
        lifecycle.repeating(store.purge, purge_seconds, "purge of the suppression list"),
    ):
        yield
