"""The wiring of the gateway."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import structlog

from services.gateway.app import build_app
from services.gateway.clients import Clients
from services.gateway.config import GatewaySettings
from services.gateway.keys import Keys
from services.gateway.schemas import Stamp
from services.gateway.store import MIGRATIONS, ClientStore
from services.gateway.views import Limits, Views
from services.gateway.waiting import Waiting
from shared import health
from shared.broker import Broker
from shared.database import Database

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
        checks = {"broker": broker.ready, "database": database.ready}
        app = build_app(_views(settings, broker, database, stop), checks, settings.gateway_max_body)
        async with (
            # All services answer at a health port; this one also at its own.
            health.endpoint(settings.health_host, settings.health_port, checks),
            health.serving(
                app, settings.gateway_host, settings.gateway_port, drain=settings.drain_seconds
            ) as port,
        ):
            yield port


def _views(
    settings: GatewaySettings, broker: Broker, database: Database, stop: asyncio.Event
) -> Views:
    keys = Keys(
        bytes.fromhex(settings.gateway_key_secret), timedelta(days=settings.gateway_key_days)
    )
    return Views(
        road=broker,
        clients=Clients(ClientStore(database), keys, settings.gateway_admin_token.encode()),
        waiting=Waiting(broker, stop),
        limits=Limits(
            body=settings.gateway_body_seconds,
            answer=settings.gateway_answer_seconds,
            wait=settings.gateway_max_wait,
        ),
        stamp=_stamp,
    )


def _stamp() -> Stamp:
    return Stamp(str(uuid.uuid4()), datetime.now(UTC))
