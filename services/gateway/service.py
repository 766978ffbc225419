"""The wiring of the gateway."""

import asyncio
import hashlib
import hmac
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from aiohttp import web

from services.gateway import client_address
from services.gateway.api.body import BodyBudget
from services.gateway.api.clients import ClientViews
from services.gateway.api.codes import CodeViews
from services.gateway.api.domains import DomainViews
from services.gateway.api.events import EventViews
from services.gateway.api.messages import MessageViews
from services.gateway.api.protocol import GatewayProtocol
from services.gateway.api.request import RequestReader
from services.gateway.app import Api, Authenticator, build_app
from services.gateway.clients.idempotency import RequestStamp
from services.gateway.clients.keys import ApiKeys
from services.gateway.clients.rate_limiter import RateLimiter
from services.gateway.clients.store import (
    MIGRATIONS,
    ClientStore,
    IdempotencyKeyStore,
    QuotaStore,
)
from services.gateway.config import GatewaySettings
from services.gateway.middleware import RequestLimit
from shared.broker import Broker
from shared.runtime import health, lifecycle
from shared.runtime.health import Check
from shared.runtime.http_connections import Connections, Limits
from shared.storage.database import Database
from shared.storage.rate import Rate

logger = structlog.get_logger(__name__)


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
        keys = IdempotencyKeyStore(database, settings.gateway_remember)
        app = application(settings, broker, database, keys, stop)
        async with (
            lifecycle.repeating(keys.purge, settings.gateway_purge_seconds, "purge"),
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
    idempotency_keys: IdempotencyKeyStore,
    stop: asyncio.Event,
) -> web.Application:
    """Return the application on a broker and a database; waits for outcomes end at `stop`."""
    secret = bytes.fromhex(settings.gateway_key_secret)
    reader = RequestReader(
        settings.gateway_body_seconds,
        idempotency_keys,
        # A key of its own: the other one signs clients' keys.
        hmac.digest(secret, b"fingerprints of bodies", hashlib.sha256),
        lambda: RequestStamp(str(uuid.uuid4()), datetime.now(UTC)),
        BodyBudget(settings.gateway_max_bodies, settings.gateway_max_body),
    )
    store = ClientStore(database)
    keys = ApiKeys(secret, timedelta(days=settings.gateway_key_days), time.time)
    answer_seconds = settings.gateway_answer_seconds
    rate = settings.gateway_client_rate
    limit = RequestLimit(settings.gateway_max_requests)
    return build_app(
        Api(
            messages=MessageViews(reader, broker, stop, settings.gateway_max_wait, limit.has_room),
            codes=CodeViews(reader, broker, answer_seconds),
            events=EventViews(reader, broker),
            domains=DomainViews(reader, broker, answer_seconds),
            clients=ClientViews(reader, store, keys),
            authenticator=Authenticator(store, keys, settings.gateway_admin_token.encode()),
            rate_limiter=RateLimiter(
                Rate(rate) if rate else None, QuotaStore(database).take, time.monotonic
            ),
            request_limit=limit,
        ),
        _checks(broker, database),
        settings.gateway_max_body,
        settings.gateway_proxies,
        with_docs=settings.gateway_docs,
    )


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
