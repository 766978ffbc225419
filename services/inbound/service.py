"""The wiring of inbound."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.inbound.config import InboundSettings
from services.inbound.reports import serving as reports
from services.inbound.submission import door
from services.inbound.submission.door import DoorPorts
from shared.broker import Broker
from shared.runtime import health


async def run(settings: InboundSettings, stop: asyncio.Event) -> None:
    """Accept mails until `stop` is set, then those that are being received."""
    async with serving(settings):
        await stop.wait()


@asynccontextmanager
async def serving(settings: InboundSettings) -> AsyncIterator[DoorPorts | None]:
    """Open everything, yield the ports, and serve until the block is left.

    Raises Unavailable or OSError when the broker, a port or the certificate cannot be had.
    """
    async with (
        Broker.connect(settings.amqp_url, settings.service) as broker,
        door.serving(settings, broker) as ports,
        reports.serving(settings, broker),
        health.endpoint(settings.health_host, settings.health_port, {"broker": broker.ready}),
    ):
        yield ports
