"""The wiring: for each sending class a queue, a pool of SMTP connections and a handler."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from services.sender.config import SenderSettings
from services.sender.handlers import SendHandler
from services.sender.mail.writer import MailBuilder
from services.sender.smtp.pool import SmtpPool
from services.sender.smtp.rate_limits import RateStore, Throttle
from services.sender.smtp.relay import Relay, RelaySettings, Tls
from services.sender.store import RENEWALS, ClaimStore
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import Category, SendEmail
from shared.runtime import health, lifecycle
from shared.runtime.sealing import Sealer
from shared.storage.clock import ASK_SECONDS, DatabaseClock
from shared.storage.database import Database
from shared.topology import sending_queue

# Above the longest transaction (see pool.BEFORE_DOT_SECONDS, and ten minutes for the dot), under
# the 30 minutes after which the broker takes a command back.
HANDLING_SECONDS = 1440.0
MIGRATIONS = Path(__file__).parent / "migrations"


async def run(settings: SenderSettings, stop: asyncio.Event) -> None:
    """Send mail until `stop` is set, then finish what is in flight and close the connections.

    A mail that waits for its turn then goes back to the broker at once. One in a
    transaction has DRAIN_SECONDS to get to its content, and one whose content has begun may wait
    for the reply to its dot for SENDER_DRAIN_DOT_SECONDS.

    Ready means that commands can be taken. A relay that is away does not make the sender unready:
    mail waits on the delay ladder then, and no restart would help. Raises Unavailable, OSError.
    """
    async with AsyncExitStack() as opened:
        broker = await opened.enter_async_context(
            Broker.connect(settings.amqp_url, settings.service)
        )
        database = await opened.enter_async_context(
            Database.open(settings.service, settings.database_url, settings.data_dir, MIGRATIONS)
        )
        clock = DatabaseClock(database)
        await clock.ask()
        claims = ClaimStore(database, settings.sender_claim_seconds)
        relays = [_relay(settings, account) for account in settings.accounts]
        writer = MailBuilder(
            Sealer.from_text(settings.sealing_key).open,
            settings.letterhead,
            settings.sender_dkim_keys,
        )
        throttle = Throttle(RateStore(database), settings.rates)
        subscriptions = []
        for category in Category:
            pool = SmtpPool(relays, settings.limits(category), category, throttle, clock.now)
            await opened.enter_async_context(pool)
            sender = SendHandler(pool, writer, claims, clock.now, settings.schedule(category))
            subscriptions.append(_subscription(settings, category, sender))
        checks = {"broker": broker.ready, "database": database.ready}
        await opened.enter_async_context(
            health.endpoint(settings.health_host, settings.health_port, checks)
        )
        await opened.enter_async_context(_upkeep(claims, clock, settings))
        async with broker.consuming(*subscriptions, drain=settings.drain_seconds):
            await stop.wait()


def _subscription(
    settings: SenderSettings, category: Category, sender: SendHandler
) -> Subscription:
    return Subscription(
        queue=sending_queue(category),
        handlers={SendEmail: sender.on_send_email},
        prefetch=settings.prefetch(category),
        limit=HANDLING_SECONDS,
        committed=settings.sender_drain_dot_seconds,
    )


@asynccontextmanager
async def _upkeep(
    claims: ClaimStore, clock: DatabaseClock, settings: SenderSettings
) -> AsyncIterator[None]:
    """Renew what is claimed here, to the end of what is in flight, and forget what is old."""
    often = settings.sender_claim_seconds / RENEWALS

    async def purge() -> int:
        return await claims.purge(settings.sender_remember)

    async with (
        lifecycle.repeating(clock.ask, ASK_SECONDS, "the time"),
        lifecycle.repeating(claims.renew, often, "renewal of claims"),
        lifecycle.repeating(purge, settings.sender_purge_seconds, "purge"),
    ):
        yield


def _relay(settings: SenderSettings, account: RelaySettings) -> Relay:
    return Relay(
        host=account.host,
        port=account.port,
        tls=account.tls,
        context=_context(account),
        login=account.login,
        helo_name=account.helo_name or settings.sender_helo_name,
        patience=settings.patience,
        backoff=settings.backoff,
        weight=account.weight,
    )


def _context(account: RelaySettings) -> ssl.SSLContext | None:
    """Make the one TLS context of all connections: names and certificates are checked."""
    if account.tls is Tls.NONE:
        return None
    context = ssl.create_default_context(cafile=account.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8314 3
    return context
