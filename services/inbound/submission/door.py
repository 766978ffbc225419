"""The two ports of the submission door: STARTTLS and implicit TLS, with one certificate."""

import asyncio
import math
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from secrets import token_bytes
from typing import NamedTuple

import structlog

from services.inbound.config import InboundSettings
from services.inbound.smtp import HANDSHAKE_SECONDS, OpenConnections, SmtpTerms
from services.inbound.submission import metrics
from services.inbound.submission.connection import SubmissionConnection, SubmissionDoor
from services.inbound.submission.handover import AcceptanceRules
from services.inbound.submission.limits import LeakyBuckets, MailBudget
from services.inbound.submission.logins import Logins
from shared.broker import Broker
from shared.runtime import lifecycle
from shared.runtime.health import MAX_ACCEPT_BACKLOG
from shared.runtime.http_connections import Connections, Limits

SECRET_BYTES = 32

logger = structlog.get_logger(__name__)


class DoorPorts(NamedTuple):
    """The ports that are open."""

    starttls: int
    tls: int


@asynccontextmanager
async def serving(settings: InboundSettings, broker: Broker) -> AsyncIterator[DoorPorts | None]:
    """Serve until the block is left; yield the ports, None without a certificate.

    At the end it accepts no more connections, ends those that are idle, and waits for the mails
    that are being received. Raises OSError when a port or the certificate cannot be had.
    """
    certificate, key = (
        settings.inbound_submission_certificate,
        settings.inbound_submission_certificate_key,
    )
    if certificate is None or key is None:
        logger.info("no submission: INBOUND_SUBMISSION_CERTIFICATE is not set")
        yield None
        return
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8314 4.1
    load = partial(_load, context, certificate, key)
    await load()
    limits = Limits(
        settings.inbound_submission_max_connections,
        settings.inbound_submission_max_connections_by_address,
    )
    connections = Connections(
        limits, gauge=metrics.CONNECTIONS, refusals=metrics.CONNECTIONS_REFUSED
    )
    door = _door(settings, broker)

    def port(number: int, *, implicit_tls: bool) -> AbstractAsyncContextManager[int]:
        terms = _terms(settings, context, implicit_tls=implicit_tls)
        make = partial(SubmissionConnection, terms, connections, door)
        return _listening(
            make, settings.inbound_submission_host, number, context if implicit_tls else None
        )

    async with (
        lifecycle.repeating(load, settings.inbound_submission_certificate_seconds, "certificate"),
        _drained(door.opened, settings.drain_seconds),
        port(settings.inbound_submission_port, implicit_tls=False) as starttls,
        port(settings.inbound_submission_tls_port, implicit_tls=True) as tls,
    ):
        logger.info("listening", starttls=starttls, tls=tls)
        yield DoorPorts(starttls, tls)


async def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Load a certificate, which new connections then show. Raises OSError."""
    await asyncio.to_thread(context.load_cert_chain, certificate, key)


def _door(settings: InboundSettings, broker: Broker) -> SubmissionDoor:
    rate = settings.inbound_submission_client_rate
    now = partial(datetime.now, UTC)
    return SubmissionDoor(
        logins=Logins(
            partial(broker.ask, within=settings.inbound_answer_seconds),
            token_bytes(SECRET_BYTES),
            time.monotonic,
            now,
        ),
        acceptance=AcceptanceRules(
            settings.inbound_submission_category, now, lambda: uuid.uuid4().hex
        ),
        publish=broker.send,
        budget=MailBudget(settings.inbound_submission_max_mails),
        rates=LeakyBuckets(max(1, math.ceil(rate)), 1 / rate) if rate else None,
    )


def _terms(settings: InboundSettings, context: ssl.SSLContext, *, implicit_tls: bool) -> SmtpTerms:
    return SmtpTerms(
        host_name=settings.inbound_hostname,
        context=context,
        implicit_tls=implicit_tls,
        max_octets=settings.inbound_submission_max_size,
        login_seconds=settings.inbound_submission_login_seconds,
        command_seconds=settings.inbound_submission_command_seconds,
        mail_seconds=settings.inbound_submission_mail_seconds,
    )


@asynccontextmanager
async def _listening(
    make: Callable[[], asyncio.BaseProtocol], host: str, port: int, context: ssl.SSLContext | None
) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    handshake = HANDSHAKE_SECONDS if context else None
    server = await loop.create_server(
        *(make, host, port),
        ssl=context,
        ssl_handshake_timeout=handshake,
        backlog=MAX_ACCEPT_BACKLOG,
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def _drained(opened: OpenConnections, seconds: float) -> AsyncIterator[None]:
    """End the connections after the block: the busy ones after their mail, within `seconds`."""
    try:
        yield
    finally:
        opened.close()
        try:
            async with asyncio.timeout(seconds):
                await opened.until_none()
        except TimeoutError:
            logger.warning("connections were cut", open=len(opened))
        finally:
            opened.abort()
