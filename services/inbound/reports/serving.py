"""The wiring of the door for reports."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog

from services.inbound import metrics
from services.inbound.config import InboundSettings
from services.inbound.listening import certified, drained, listening
from services.inbound.reports.door import ReportConnection, ReportDoor
from services.inbound.reports.kept import KeptMails
from services.inbound.reports.reader import reading
from services.inbound.reports.receiving import ReportReceiver
from services.inbound.smtp import SmtpTerms
from shared.broker import Broker
from shared.runtime import lifecycle
from shared.runtime.http_connections import Connections, Limits

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
    kept = KeptMails(
        Path(settings.data_dir) / KEPT_FOLDER,
        settings.inbound_report_kept_files,
        settings.inbound_report_kept_seconds,
    )
    async with reading(settings.inbound_report_readers) as reader, _tls(settings) as context:
        now = partial(datetime.now, UTC)
        answer_seconds = settings.inbound_answer_seconds
        others = settings.inbound_report_others
        receiver = ReportReceiver(broker, reader.read, kept, paths, answer_seconds, now, others)
        door = ReportDoor(receiver, settings.inbound_report_addresses)
        make = partial(ReportConnection, _terms(settings, context), _connections(settings), door)
        host, number = settings.inbound_report_host, settings.inbound_report_port
        async with (
            lifecycle.repeating(kept.purge, PURGE_SECONDS, "purge of kept mails"),
            drained(door.opened, settings.drain_seconds),
            listening(make, host, number) as port,
        ):
            logger.info("listening for reports", port=port, starttls=context is not None)
            yield port


@asynccontextmanager
async def _tls(settings: InboundSettings) -> AsyncIterator[ssl.SSLContext | None]:
    certificate, key = (
        settings.inbound_report_certificate,
        settings.inbound_report_certificate_key,
    )
    if certificate is None or key is None:
        yield None
        return
    async with certified(certificate, key, settings.inbound_certificate_seconds) as context:
        yield context


def _terms(settings: InboundSettings, context: ssl.SSLContext | None) -> SmtpTerms:
    return SmtpTerms(
        host_name=settings.inbound_hostname,
        context=context,
        implicit_tls=False,
        max_octets=settings.inbound_report_max_bytes,
        untrusted_seconds=settings.inbound_report_session_seconds,
        command_seconds=settings.inbound_report_command_seconds,
        mail_seconds=settings.inbound_report_mail_seconds,
    )


def _connections(settings: InboundSettings) -> Connections:
    limits = Limits(
        settings.inbound_report_max_connections,
        settings.inbound_report_max_connections_by_address,
    )
    return Connections(
        limits, gauge=metrics.REPORT_CONNECTIONS, refusals=metrics.REPORT_CONNECTIONS_REFUSED
    )
