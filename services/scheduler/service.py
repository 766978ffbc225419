"""The wiring of the scheduler."""

import asyncio
import hmac
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from services.scheduler.config import SchedulerSettings
from services.scheduler.handlers import (
    ContentHandlers,
    ForgetHandlers,
    LaterHandlers,
    SubscriptionHandlers,
)
from services.scheduler.newsletters import NewsletterMaker
from services.scheduler.release import LOOK_SECONDS, LaterReleaser, Releaser, Room
from services.scheduler.rendering import rendering
from services.scheduler.run_handlers import RunHandlers, StopRule
from services.scheduler.store.content_types import ContentStore
from services.scheduler.store.due import DueStore, Leases
from services.scheduler.store.later import LaterStore
from services.scheduler.store.runs import RunStore
from services.scheduler.store.subscriptions import SubscriptionStore
from shared import topology
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import (
    ClientRemoved,
    ConfirmSubscription,
    DeleteContentType,
    DescribeContentType,
    DescribeSubscription,
    EmailBounced,
    EndSubscription,
    ForgetAddress,
    ListContentTypes,
    ListRuns,
    ListSubscriptions,
    RenderContent,
    RepeatEmails,
    ReportBounced,
    ReportComplained,
    RescheduleEmail,
    ResumeContentType,
    SaveContentType,
    SendEmail,
    Subscribe,
    SuppressionAdded,
    UnscheduleEmail,
)
from shared.links import Links
from shared.runtime import health, lifecycle
from shared.runtime.sealing import AddressHasher, Sealer, read_keys
from shared.storage.database import Database

MIGRATIONS = Path(__file__).parent / "migrations"
MAX_QUESTIONS_IN_FLIGHT = 32
MAX_EVENTS_IN_FLIGHT = 64
MAX_MAILS_IN_FLIGHT = 64
PURGE_SECONDS = 3600.0
SET_BACK_SECONDS = 3600.0


async def run(settings: SchedulerSettings, stop: asyncio.Event) -> None:
    """Answer questions and publish what is due until `stop` is set."""
    url, folder = settings.database_url, settings.data_dir
    async with (
        Broker.connect(settings.amqp_url, settings.service) as broker,
        Database.open(settings.service, url, folder, MIGRATIONS) as database,
        rendering() as previews,
        rendering() as newsletters,
    ):
        links = Links(settings.scheduler_public_url, Sealer.from_text(settings.link_key))
        spread = timedelta(seconds=settings.scheduler_spread_seconds)
        contents = ContentStore(database)
        subscription_store = SubscriptionStore(database, spread)
        pending = timedelta(days=settings.scheduler_pending_days)
        subscriptions = SubscriptionHandlers(
            subscription_store, contents, links, settings.scheduler_from, _utc_now, pending
        )
        leases = Leases(timedelta(seconds=settings.scheduler_lease_seconds))
        mails = LaterStore(database, leases, _hashers(settings.link_key))
        forget = ForgetHandlers(subscription_store, mails)
        later = LaterHandlers(mails, _utc_now)
        maker = NewsletterMaker(links, settings.scheduler_from)
        run_store = RunStore(database)
        rule = StopRule(
            settings.scheduler_stop_share,
            settings.scheduler_stop_complaints,
            settings.scheduler_stop_count,
        )
        runs = RunHandlers(
            run_store, contents, subscriptions, maker, newsletters.render, rule, _utc_now
        )
        releaser = Releaser(
            DueStore(database, leases),
            contents.find,
            broker.publish_all,
            maker,
            newsletters.render,
            Room(broker.count_waiting, settings.scheduler_max_waiting),
            spread,
            settings.scheduler_rate,
            random.random,
        )
        checks = {"broker": broker.ready, "database": database.ready}
        async with (
            broker.consuming(
                _questions(ContentHandlers(contents, previews), subscriptions, later, runs),
                _mails(later),
                _addresses(runs, forget),
                drain=settings.drain_seconds,
            ),
            lifecycle.repeating(releaser.run, LOOK_SECONDS, "newsletters"),
            lifecycle.repeating(releaser.set_back, SET_BACK_SECONDS, "periods far ahead"),
            lifecycle.repeating(
                LaterReleaser(mails, broker.publish_all, _utc_now).run,
                LOOK_SECONDS,
                "mails for later",
            ),
            lifecycle.repeating(
                partial(run_store.purge, settings.scheduler_run_days),
                PURGE_SECONDS,
                "purge of runs",
            ),
            lifecycle.repeating(
                partial(subscription_store.purge, settings.scheduler_pending_days),
                PURGE_SECONDS,
                "purge of subscriptions that nobody confirmed",
            ),
            lifecycle.repeating(mails.purge, PURGE_SECONDS, "purge of forgotten addresses"),
            health.endpoint(settings.health_host, settings.health_port, checks),
        ):
            await stop.wait()


def _questions(
    contents: ContentHandlers,
    subscriptions: SubscriptionHandlers,
    later: LaterHandlers,
    runs: RunHandlers,
) -> Subscription:
    return Subscription.to_questions(
        topology.SCHEDULER_QUESTIONS,
        {
            SaveContentType: contents.on_save,
            DescribeContentType: contents.on_describe,
            DeleteContentType: contents.on_delete,
            ResumeContentType: contents.on_resume,
            ListContentTypes: contents.on_list,
            RenderContent: contents.on_render,
            Subscribe: subscriptions.on_subscribe,
            ConfirmSubscription: subscriptions.on_confirm,
            DescribeSubscription: subscriptions.on_describe,
            EndSubscription: subscriptions.on_end,
            ListSubscriptions: subscriptions.on_list,
            RescheduleEmail: later.on_reschedule,
            UnscheduleEmail: later.on_unschedule,
            ListRuns: runs.on_list_runs,
            RepeatEmails: runs.on_repeat,
        },
        MAX_QUESTIONS_IN_FLIGHT,
    )


def _mails(later: LaterHandlers) -> Subscription:
    return Subscription(
        topology.SCHEDULER_MAIL, {SendEmail: later.on_send_email}, MAX_MAILS_IN_FLIGHT
    )


def _addresses(runs: RunHandlers, forget: ForgetHandlers) -> Subscription:
    return Subscription(
        topology.SCHEDULER_ADDRESSES,
        {
            SuppressionAdded: runs.on_suppression,
            EmailBounced: runs.on_bounced,
            ReportBounced: runs.on_bounced,
            ReportComplained: runs.on_complained,
            ForgetAddress: forget.on_forget,
            ClientRemoved: runs.on_client_removed,
        },
        MAX_EVENTS_IN_FLIGHT,
    )


def _hashers(keys: str) -> Sequence[AddressHasher]:
    """Return the hashers of forgotten addresses, whose keys are others than those of links."""
    return [
        AddressHasher(hmac.digest(key, b"forgotten addresses", "sha256")) for key in read_keys(keys)
    ]


def _utc_now() -> datetime:
    return datetime.now(UTC)
