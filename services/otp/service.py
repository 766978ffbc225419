"""The wiring of the otp service."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from services.otp.codes import CodeGenerator, FixedCodes
from services.otp.config import OtpSettings
from services.otp.handlers import CodeHandlers
from services.otp.mail.mail import MailWriter
from services.otp.store import ChallengeStore
from shared import topology
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import CancelCode, ForgetAddress, IssueCode, VerifyCode
from shared.runtime import health, lifecycle
from shared.runtime.sealing import Sealer
from shared.storage.database import Database

MIGRATIONS = Path(__file__).parent / "migrations"
logger = structlog.get_logger(__name__)

# More would not make a transaction cheaper for each of them.
MAX_COMMANDS_IN_FLIGHT = 64
MAX_QUESTIONS_IN_FLIGHT = 256


async def run(settings: OtpSettings, stop: asyncio.Event) -> None:
    """Issue and verify codes until `stop` is set."""
    url, folder = settings.database_url, settings.data_dir
    async with (
        Broker.connect(settings.amqp_url, settings.service) as broker,
        Database.open(settings.service, url, folder, MIGRATIONS) as database,
    ):
        store, handlers = _parts(settings, database)
        checks = {"broker": broker.ready, "database": database.ready}
        async with (
            lifecycle.repeating(store.purge, settings.otp_purge_seconds, "purge"),
            broker.consuming(*_subscriptions(handlers), drain=settings.drain_seconds),
            health.endpoint(settings.health_host, settings.health_port, checks),
        ):
            await stop.wait()


def _parts(settings: OtpSettings, database: Database) -> tuple[ChallengeStore, CodeHandlers]:
    generator = CodeGenerator.from_text(settings.otp_key, settings.otp_digits)
    store = ChallengeStore(database, settings.policy(generator.key_ids))
    sealer = Sealer.from_text(settings.sealing_key)
    fixed = FixedCodes(settings.otp_test_codes)
    log_fixed_codes(fixed, datetime.now(UTC))
    writer = MailWriter(settings.otp_templates, settings.branding)
    return store, CodeHandlers(store, generator, sealer, writer, settings.limits, fixed)


def log_fixed_codes(codes: FixedCodes, now: datetime) -> None:
    """Log the addresses whose code is not mailed, and those whose code has expired."""
    expired = codes.expired(now)
    for email, until in expired.items():
        logger.warning("a test code has expired", email=email, until=until.isoformat())
    if len(codes) > len(expired):
        logger.warning("test codes are on", addresses=len(codes) - len(expired))


def _subscriptions(handlers: CodeHandlers) -> Sequence[Subscription]:
    return (
        Subscription(
            topology.OTP_COMMANDS,
            {
                IssueCode: handlers.on_issue_code,
                CancelCode: handlers.on_cancel_code,
                ForgetAddress: handlers.on_forget_address,
            },
            MAX_COMMANDS_IN_FLIGHT,
        ),
        Subscription.to_questions(
            topology.OTP_QUESTIONS,
            {VerifyCode: handlers.on_verify_code},
            MAX_QUESTIONS_IN_FLIGHT,
        ),
    )
