"""The two ports of the submission door: STARTTLS and implicit TLS, with one certificate."""

import math
import ssl
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from secrets import token_bytes
from typing import NamedTuple

import structlog

from services.inbound import metrics
from services.inbound.config import InboundSettings
from services.inbound.listening import certified, drained, listening
from services.inbound.smtp import SmtpTerms
from services.inbound.submission.connection import SubmissionConnection, SubmissionDoor
from services.inbound.submission.handover import AcceptanceRules
from services.inbound.submission.limits import LeakyBuckets, MailBudget
from services.inbound.submission.logins import Logins
from shared.broker import Broker
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
    limits = Limits(
        settings.inbound_submission_max_connections,
        settings.inbound_submission_max_connections_by_address,
    )
    connections = Connections(
        limits,
        gauge=metrics.SUBMISSION_CONNECTIONS,
        refusals=metrics.SUBMISSION_CONNECTIONS_REFUSED,
    )
    door = _door(settings, broker)
    async with certified(certificate, key, settings.inbound_certificate_seconds) as context:

        def port(number: int, *, implicit_tls: bool) -> AbstractAsyncContextManager[int]:
            terms = _terms(settings, context, implicit_tls=implicit_tls)
            make = partial(SubmissionConnection, terms, connections, door)
            return listening(
                make, settings.inbound_submission_host, number, context if implicit_tls else None
            )

        async with (
            drained(door.opened, settings.drain_seconds),
            port(settings.inbound_submission_port, implicit_tls=False) as starttls,
            port(settings.inbound_submission_tls_port, implicit_tls=True) as tls,
        ):
            logger.info("listening", starttls=starttls, tls=tls)
            yield DoorPorts(starttls, tls)


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
        untrusted_seconds=settings.inbound_submission_login_seconds,
        command_seconds=settings.inbound_submission_command_seconds,
        mail_seconds=settings.inbound_submission_mail_seconds,
    )
