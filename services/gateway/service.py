"""The wiring of the gateway."""

import asyncio
import hashlib
import hmac
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from services.gateway import client_address
from services.gateway.api.body import RequestStamp
from services.gateway.api.client_views import ClientViews
from services.gateway.api.code_views import CodeViews
from services.gateway.api.domain_views import DomainViews
from services.gateway.api.event_views import EventViews
from services.gateway.api.message_views import MessageViews
from services.gateway.api.protocol import GatewayProtocol
from services.gateway.api.views import Views
from services.gateway.api.waiting import Waiting
from services.gateway.app import build_app
from services.gateway.body_budget import BodyBudget
from services.gateway.clients.clients import Clients
from services.gateway.clients.keys import ApiKeys
from services.gateway.clients.rate_limiter import RateLimiter
from services.gateway.clients.store import MIGRATIONS, ClientStore, IdempotencyKeyStore, QuotaStore
from services.gateway.config import GatewaySettings
from services.gateway.intake import RequestReader
from shared.broker import Broker
from shared.runtime import health, periodic
from shared.runtime.http_connections import Connections, Limits
from shared.storage.database import Database
from shared.storage.rate import Pace

logger = structlog.get_logger(__name__)


async def run(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Answer requests until `stop` is set, then those that are under way."""
    async with serving(settings, stop) as port:
        logger.info("listening", host=settings.gateway_host, port=port)
        await stop.wait()


@asynccontextmanager
async def serving(settings: GatewaySettings, stop: asyncio.Event) -> AsyncIterator[int]:
    """Open everything, serve until the block is left, and give the port.

    Raises Unavailable or OSError when the broker, the database or the port cannot be had.
    """
    async with (
        Database.open(
            settings.service, settings.database_url, settings.data_dir, MIGRATIONS
        ) as database,
        Broker.connect(settings.amqp_url, settings.service) as broker,
    ):
        uses = IdempotencyKeyStore(database, settings.gateway_remember)
        checks = {"broker": broker.ready, "database": database.ready}
        app = build_app(
            _views(settings, broker, database, uses, stop),
            _rate_limiter(settings, database),
            checks,
            settings.gateway_max_body,
            settings.gateway_proxies,
        )
        async with (
            periodic.repeating(uses.purge, settings.gateway_purge_seconds, "purge"),
            # All services answer at a health port; this one also at its own.
            health.endpoint(settings.health_host, settings.health_port, checks),
            health.serving(
                app,
                settings.gateway_host,
                settings.gateway_port,
                settings.drain_seconds,
                partial(GatewayProtocol, _connections(settings)),
            ) as port,
        ):
            yield port


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


def _views(
    settings: GatewaySettings,
    broker: Broker,
    database: Database,
    uses: IdempotencyKeyStore,
    stop: asyncio.Event,
) -> Views:
    secret = bytes.fromhex(settings.gateway_key_secret)
    within = settings.gateway_answer_seconds
    intake = RequestReader(
        settings.gateway_body_seconds,
        uses,
        # A key of its own: what is signed with the other are clients' keys.
        hmac.digest(secret, b"fingerprints of bodies", hashlib.sha256),
        _stamp,
        BodyBudget(settings.gateway_max_bodies, settings.gateway_max_body),
    )
    keys = ApiKeys(secret, timedelta(days=settings.gateway_key_days), time.time)
    clients = Clients(ClientStore(database), keys, settings.gateway_admin_token.encode())
    waiting = Waiting(broker, stop)
    return Views(
        messages=MessageViews(intake, broker, waiting, settings.gateway_max_wait),
        codes=CodeViews(intake, broker, within),
        events=EventViews(intake, broker),
        domains=DomainViews(intake, broker, within),
        clients=ClientViews(intake, clients),
    )


def _rate_limiter(settings: GatewaySettings, database: Database) -> RateLimiter:
    rate = settings.gateway_client_rate
    return RateLimiter(Pace(rate) if rate else None, QuotaStore(database), time.monotonic)


def _stamp() -> RequestStamp:
    return RequestStamp(str(uuid.uuid4()), datetime.now(UTC))
