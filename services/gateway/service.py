"""The wiring of the gateway."""

import asyncio
import hashlib
import hmac
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Self

import structlog
from aiohttp import web

from services.gateway.api.batch import BatchViews
from services.gateway.api.body import BodyBudget
from services.gateway.api.clients import ClientViews
from services.gateway.api.codes import CodeViews
from services.gateway.api.content_types import ContentTypeViews
from services.gateway.api.domains import DomainViews
from services.gateway.api.events import EventViews
from services.gateway.api.feedback import FeedbackViews
from services.gateway.api.links import MAX_USES, USES_SECONDS, LinkViews
from services.gateway.api.messages import MessageViews
from services.gateway.api.records import RecordViews
from services.gateway.api.request import RequestReader
from services.gateway.api.runs import RunViews
from services.gateway.api.stats import StatsViews
from services.gateway.api.subscriptions import SubscriptionViews
from services.gateway.api.suppressions import SuppressionViews
from services.gateway.api.tasks import TaskViews
from services.gateway.api.webhook_tries import WebhookTryViews
from services.gateway.app import Api, Authenticator, build_app
from services.gateway.clients.idempotency import RequestStamp
from services.gateway.clients.idempotency_store import IdempotencyKeyStore
from services.gateway.clients.keys import ApiKeys
from services.gateway.clients.rate_limiter import QuotaStore, RateLimiter
from services.gateway.clients.store import ClientStore, utc_now
from services.gateway.clients.tables import MIGRATIONS
from services.gateway.config import GatewaySettings
from services.gateway.feedback import resend, sendgrid
from services.gateway.feedback.events import Provider
from services.gateway.feedback.mailgun import Mailgun
from services.gateway.feedback.postmark import Postmark
from services.gateway.feedback.resend import Resend
from services.gateway.feedback.sendgrid import SendGrid
from services.gateway.feedback.sns import SnsReader
from services.gateway.handlers import ClientHandlers, OperatorHandlers, RemovalAnnouncer
from services.gateway.middleware import GatewayProtocol, RequestLimit
from shared import client_address, topology
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import (
    AddClientKey,
    AuthenticateClient,
    ChangeClient,
    DescribeClient,
    ListClients,
    RegisterClient,
    RevokeClient,
    RevokeClientKey,
)
from shared.links import Links
from shared.runtime import health, lifecycle
from shared.runtime.health import Check
from shared.runtime.http_connections import Connections, Limits
from shared.runtime.sealing import Sealer
from shared.storage.database import Database
from shared.storage.rate import LocalRateLimiter, Rate

MAX_QUESTIONS_IN_FLIGHT = 32
ANNOUNCE_SECONDS = 5.0  # until a removal is published that no gateway could publish at once
STORE_USES_SECONDS = 60.0  # between two writes of the days on which keys were used

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores on the gateway's database."""

    clients: ClientStore
    idempotency_keys: IdempotencyKeyStore
    quotas: QuotaStore

    @classmethod
    def of(cls, database: Database, remember_seconds: float) -> Self:
        """Return the stores; an Idempotency-Key is kept for `remember_seconds`."""
        keys = IdempotencyKeyStore(database, remember_seconds)
        return cls(ClientStore(database), keys, QuotaStore(database))


async def run(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Answer requests until `stop` is set, then the requests that are under way."""
    async with serving(settings, stop) as port:
        logger.info("listening", host=settings.gateway_host, port=port)
        await stop.wait()


@asynccontextmanager
async def serving(settings: GatewaySettings, stop: asyncio.Event) -> AsyncIterator[int]:
    """Open everything, yield the port, and serve until the block is left.

    Raises Unavailable or OSError when the broker, the database or the port cannot be had.
    """
    async with (
        Database.open(
            settings.service, settings.database_url, settings.data_dir, MIGRATIONS
        ) as database,
        Broker.connect(settings.amqp_url, settings.service) as broker,
    ):
        stores = Stores.of(database, settings.gateway_remember)
        removals = RemovalAnnouncer(stores.clients, broker.publish)
        keys = ClientHandlers(_authenticator(settings, stores).verify)
        operators = OperatorHandlers(stores.clients, _keys(settings), _new_stamp)
        app = application(settings, broker, database, stores, stop)
        purge_seconds = settings.gateway_purge_seconds
        async with (
            lifecycle.repeating(stores.idempotency_keys.purge, purge_seconds, "purge"),
            lifecycle.repeating(stores.clients.store_uses, STORE_USES_SECONDS, "uses of keys"),
            lifecycle.repeating(removals.announce, ANNOUNCE_SECONDS, "removals of clients"),
            broker.consuming(_questions(keys, operators), drain=settings.drain_seconds),
            # All services answer at a health port; this one also at its own.
            health.endpoint(settings.health_host, settings.health_port, _checks(broker, database)),
            health.serving(
                app,
                settings.gateway_host,
                settings.gateway_port,
                settings.drain_seconds,
                partial(GatewayProtocol, _connections(settings)),
            ) as port,
        ):
            yield port


def application(
    settings: GatewaySettings,
    broker: Broker,
    database: Database,
    stores: Stores,
    stop: asyncio.Event,
) -> web.Application:
    """Return the application on a broker and a database; waits for outcomes end at `stop`."""
    secret = bytes.fromhex(settings.gateway_key_secret)
    reader = RequestReader(
        settings.gateway_body_seconds,
        stores.idempotency_keys,
        # A key of its own: the other one signs clients' keys.
        hmac.digest(secret, b"fingerprints of bodies", hashlib.sha256),
        _new_stamp,
        BodyBudget(settings.gateway_max_bodies, settings.gateway_max_body),
    )
    answer_seconds = settings.gateway_answer_seconds
    rate, topics = settings.gateway_client_rate, settings.gateway_ses_topics
    limit = RequestLimit(settings.gateway_max_requests)
    codes = CodeViews(reader, broker, answer_seconds)
    contents = ContentTypeViews(reader, broker, answer_seconds)
    return build_app(
        Api(
            messages=MessageViews(
                *(reader, broker, answer_seconds, contents),
                *(stop, settings.gateway_max_wait, limit.has_room),
            ),
            batch=BatchViews(reader, broker),
            tasks=TaskViews(reader, broker, answer_seconds, codes),
            codes=codes,
            events=EventViews(reader, broker),
            feedback=FeedbackViews(
                *(reader, broker, answer_seconds, _providers(settings)),
                SnsReader(topics) if topics else None,
                utc_now,
            ),
            domains=DomainViews(reader, broker, answer_seconds),
            records=RecordViews(reader, broker, answer_seconds),
            stats=StatsViews(reader, broker, answer_seconds),
            suppressions=SuppressionViews(reader, broker, answer_seconds),
            content_types=contents,
            runs=RunViews(reader, broker, answer_seconds),
            subscriptions=SubscriptionViews(reader, broker, answer_seconds),
            webhooks=WebhookTryViews(reader, broker, answer_seconds),
            links=_link_views(settings, reader, broker),
            clients=ClientViews(
                *(reader, stores.clients, _keys(settings)),
                RemovalAnnouncer(stores.clients, broker.publish).announce,
            ),
            authenticator=_authenticator(settings, stores),
            rate_limiter=RateLimiter(Rate(rate) if rate else None, stores.quotas, time.monotonic),
            request_limit=limit,
        ),
        _checks(broker, database),
        settings.gateway_max_body,
        settings.gateway_proxies,
        with_docs=settings.gateway_docs,
    )


def _new_stamp() -> RequestStamp:
    return RequestStamp(str(uuid.uuid4()), datetime.now(UTC))


def _keys(settings: GatewaySettings) -> ApiKeys:
    secret = bytes.fromhex(settings.gateway_key_secret)
    return ApiKeys(secret, timedelta(days=settings.gateway_key_days), time.time)


def _authenticator(settings: GatewaySettings, stores: Stores) -> Authenticator:
    token = settings.gateway_admin_token.encode()
    return Authenticator(stores.clients, _keys(settings), token, utc_now)


def _providers(settings: GatewaySettings) -> Mapping[str, Provider]:
    """Return the mail providers that are set up, without SES, by their names."""
    found = list[Provider]()
    if key := settings.gateway_sendgrid_key:
        found.append(SendGrid(sendgrid.read_keys(key)))
    if login := settings.gateway_postmark_login:
        found.append(Postmark(login))
    if key := settings.gateway_mailgun_key:
        found.append(Mailgun([each.strip() for each in key.split(",")]))
    if secret := settings.gateway_resend_secret:
        found.append(Resend(resend.read_secrets(secret)))
    return {each.source: each for each in found}


def _questions(keys: ClientHandlers, operators: OperatorHandlers) -> Subscription:
    return Subscription.to_questions(
        topology.GATEWAY_QUESTIONS,
        {
            AuthenticateClient: keys.on_authenticate_client,
            ListClients: operators.on_list,
            DescribeClient: operators.on_describe,
            RegisterClient: operators.on_register,
            ChangeClient: operators.on_change,
            RevokeClient: operators.on_revoke,
            AddClientKey: operators.on_add_key,
            RevokeClientKey: operators.on_revoke_key,
        },
        MAX_QUESTIONS_IN_FLIGHT,
    )


def _link_views(
    settings: GatewaySettings, reader: RequestReader, broker: Broker
) -> LinkViews | None:
    if settings.link_key is None:
        return None
    links = Links("", Sealer.from_text(settings.link_key))  # which reads, and makes none
    limiter = LocalRateLimiter(MAX_USES, USES_SECONDS, time.monotonic)
    return LinkViews(reader, broker, settings.gateway_answer_seconds, links, limiter, utc_now)


def _checks(broker: Broker, database: Database) -> Mapping[str, Check]:
    return {"broker": broker.ready, "database": database.ready}


def _connections(settings: GatewaySettings) -> Connections:
    limits = Limits(
        settings.gateway_max_connections,
        settings.gateway_max_connections_by_address,
        settings.gateway_header_seconds,
        settings.gateway_idle_seconds,
    )
    return Connections(
        limits, lambda address: client_address.is_in(address, settings.gateway_proxies)
    )
