"""The wiring of the webhooks."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import structlog

from services.webhooks import metrics
from services.webhooks.config import WebhookSettings
from services.webhooks.dispatch import Dispatcher
from services.webhooks.handlers import EndpointHandlers, HistoryHandlers, WebhookEventHandlers
from services.webhooks.requests import WebhookRequester
from services.webhooks.store.deliveries import DeliveryStore
from services.webhooks.store.endpoints import EndpointStore
from services.webhooks.store.history import HistoryStore
from services.webhooks.store.upkeep import UpkeepStore
from shared import topology
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import (
    WEBHOOK_CONTRACTS,
    ChangeWebhook,
    ClientRemoved,
    CreateWebhook,
    DeleteWebhook,
    DescribeWebhook,
    ForgetAddress,
    ListWebhookDeliveries,
    ListWebhooks,
    ListWebhookTries,
    ReplayWebhook,
    RotateWebhookSecret,
    SendTestEvent,
)
from shared.errors import Unavailable
from shared.runtime import health, lifecycle
from shared.runtime.sealing import Sealer
from shared.storage.database import Database

MIGRATIONS = Path(__file__).parent / "migrations"
MAX_BATCH_SIZE = 512  # events of one transaction
MAX_EVENTS_IN_FLIGHT = 1024
MAX_QUESTIONS_IN_FLIGHT = 32
MAX_COMMANDS_IN_FLIGHT = 4
COMMAND_SECONDS = 600.0
SPREAD_SECONDS = 1.0
LIMIT_SECONDS = 5.0
ANNOUNCE_SECONDS = 5.0
PURGE_SECONDS = 600.0
# The times of a try that a lease lasts, with time to wait for a connection and to write the result.
LEASE_TRIES = 4

logger = structlog.get_logger(__name__)


async def run(settings: WebhookSettings, stop: asyncio.Event) -> None:
    """Keep events, send them, and answer questions until `stop` is set."""
    url, folder = settings.database_url, settings.data_dir
    sealer = Sealer.from_text(settings.webhook_key)
    async with (
        Broker.connect(settings.amqp_url, settings.service) as broker,
        Database.open(settings.service, url, folder, MIGRATIONS) as database,
        WebhookRequester.opened(
            settings.webhooks_try_seconds,
            settings.webhooks_allow_networks,
            settings.webhooks_ca_file,
        ) as requester,
    ):
        lease = timedelta(seconds=settings.webhooks_try_seconds * LEASE_TRIES)
        store = DeliveryStore(database, lease, settings.webhooks_days)
        upkeep = UpkeepStore(database, settings.webhooks_days)
        dispatcher = Dispatcher(
            store,
            requester.send,
            sealer,
            max_connections=settings.webhooks_max_connections,
            endpoint_connections=settings.webhooks_endpoint_connections,
            jitter=random.random,
        )
        endpoints = EndpointHandlers(
            EndpointStore(database, sealer, settings.webhooks_max_endpoints),
            settings.webhooks_allow_http,
            dispatcher.recall,
        )
        history = HistoryHandlers(HistoryStore(database), dispatcher.wake)
        events = WebhookEventHandlers(store, upkeep, dispatcher.wake)
        checks = {"broker": broker.ready, "database": database.ready}
        async with (
            dispatcher.running(min(settings.drain_seconds, settings.webhooks_try_seconds)),
            _upkeep(upkeep, dispatcher, broker),
            broker.consuming(
                _events(events),
                _commands(events, endpoints),
                _questions(endpoints, history),
                drain=settings.drain_seconds,
            ),
            health.endpoint(settings.health_host, settings.health_port, checks),
        ):
            await stop.wait()


@asynccontextmanager
async def _upkeep(
    store: UpkeepStore, dispatcher: Dispatcher, broker: Broker
) -> AsyncIterator[None]:
    async def spread() -> None:
        if await store.spread():
            dispatcher.wake()

    async def bring_forward() -> None:
        if await store.bring_forward():
            dispatcher.wake()

    async def announce() -> None:
        for event in await store.unannounced():
            with suppress(Unavailable):  # the next time
                await broker.publish(event)
                await store.announced(event)
                metrics.DISABLED.labels(event.reason).inc()
                logger.warning(
                    "disabled an endpoint",
                    id=event.webhook_id,
                    client=event.client,
                    why=event.reason,
                )

    async with (
        lifecycle.repeating(spread, SPREAD_SECONDS, "backlogs of endpoints"),
        lifecycle.repeating(store.limit_waiting, LIMIT_SECONDS, "limits of backlogs"),
        lifecycle.repeating(bring_forward, LIMIT_SECONDS, "events planned too late"),
        lifecycle.repeating(announce, ANNOUNCE_SECONDS, "disabled endpoints"),
        lifecycle.repeating(store.purge, PURGE_SECONDS, "purge of events"),
    ):
        yield


def _events(handlers: WebhookEventHandlers) -> Subscription:
    return Subscription(
        topology.WEBHOOK_EVENTS,
        dict.fromkeys(WEBHOOK_CONTRACTS, handlers.on_event),
        MAX_EVENTS_IN_FLIGHT,
        group_size=MAX_BATCH_SIZE,
        handle_batch=handlers.on_batch,
    )


def _commands(events: WebhookEventHandlers, endpoints: EndpointHandlers) -> Subscription:
    return Subscription(
        topology.WEBHOOK_COMMANDS,
        {ForgetAddress: events.on_forget, ClientRemoved: endpoints.on_client_removed},
        MAX_COMMANDS_IN_FLIGHT,
        limit_seconds=COMMAND_SECONDS,
    )


def _questions(endpoints: EndpointHandlers, history: HistoryHandlers) -> Subscription:
    return Subscription.to_questions(
        topology.WEBHOOK_QUESTIONS,
        {
            CreateWebhook: endpoints.on_create,
            ChangeWebhook: endpoints.on_change_webhook,
            DescribeWebhook: endpoints.on_describe,
            DeleteWebhook: endpoints.on_delete,
            RotateWebhookSecret: endpoints.on_rotate,
            ListWebhooks: endpoints.on_list,
            SendTestEvent: history.on_test,
            ReplayWebhook: history.on_replay,
            ListWebhookDeliveries: history.on_deliveries,
            ListWebhookTries: history.on_tries,
        },
        MAX_QUESTIONS_IN_FLIGHT,
    )
