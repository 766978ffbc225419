"""The wiring of the door for reports."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog

from services.inbound.config import InboundSettings
from services.inbound.reports.door import DoorAddress, DoorHandler, DoorLimits, listening
from services.inbound.reports.kept import KeptMails
from services.inbound.reports.reader import reading
from services.inbound.reports.receiving import ReportReceiver
from shared.broker import Broker
from shared.runtime import lifecycle

KEPT_FOLDER = "inbound-unread"
PURGE_SECONDS = 3600.0

logger = structlog.get_logger(__name__)


@asynccontextmanager
async def serving(settings: InboundSettings, broker: Broker) -> AsyncIterator[int | None]:
    """Listen for reports until the block is left; yield the port, None without a domain.

    At the end the mails that were received whole are answered. Raises OSError if the port is taken.
    """
    paths = settings.return_paths
    if paths is None:
        logger.info("no reports: INBOUND_REPORT_DOMAIN is not set")
        yield None
        return
    limits = DoorLimits(
        settings.inbound_report_max_bytes,
        settings.inbound_report_max_connections,
        settings.inbound_report_max_connections_by_address,
        settings.inbound_report_idle_seconds,
        settings.inbound_report_session_seconds,
    )
    address = DoorAddress(
        settings.inbound_hostname, settings.inbound_report_host, settings.inbound_report_port
    )
    kept = KeptMails(
        Path(settings.data_dir) / KEPT_FOLDER,
        settings.inbound_report_kept_files,
        settings.inbound_report_kept_seconds,
    )
    async with reading(settings.inbound_report_readers) as reader:
        now = partial(datetime.now, UTC)
        answer_seconds = settings.inbound_answer_seconds
        receiver = ReportReceiver(broker, reader.read, kept, paths, answer_seconds, now)
        handler = DoorHandler(receiver, paths, settings.inbound_report_addresses)
        async with (
            lifecycle.repeating(kept.purge, PURGE_SECONDS, "purge of kept mails"),
            listening(handler, address, limits, settings.drain_seconds) as port,
        ):
            logger.info("listening for reports", port=port)
            yield port
