"""The wiring: the queues, a pool of SMTP connections and a handler for each sending class."""

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from services.sender.config import SenderSettings
from services.sender.handlers import SendHandler, StopHandlers, ask_for_copy
from services.sender.mail.builder import MailBuilder
from services.sender.relay_handlers import RelayHandlers
from services.sender.smtp.pool import SmtpPool
from services.sender.smtp.rate_limits import Throttle
from services.sender.smtp.relay import Relay, RelaySettings, Tls
from services.sender.stops import StopStore
from services.sender.store import RENEWALS_PER_LEASE, ClaimStore
from services.sender.tables import paces
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import (
    CancelEmail,
    Category,
    DescribeRelays,
    ForgetAddress,
    SendEmail,
    SuppressionAdded,
    SuppressionRemoved,
)
from shared.runtime import health, lifecycle
from shared.runtime.sealing import AddressHasher, Sealer
from shared.storage.database import ASK_SECONDS, Database, DatabaseClock
from shared.storage.rate_limit import TokenBuckets
from shared.topology import (
    SENDER_ADDRESSES,
    SENDER_QUESTIONS,
    sending_queue,
    shard_queues,
)

# Above the longest transaction (see pool.BEFORE_DOT_SECONDS, and ten minutes for the dot), under
# the 30 minutes after which the broker takes a command back.
HANDLING_SECONDS = 1440.0
MAX_ENTRIES_IN_FLIGHT = 256  # one transaction takes them all
FORGET_SECONDS = 600.0  # all claims are read
ASK_FOR_COPY_SECONDS = 3600.0  # while there is no entry
MIGRATIONS = Path(__file__).parent / "migrations"


async def run(settings: SenderSettings, stop: asyncio.Event) -> None:
    """Send mail until `stop` is set, then finish what is in flight and close the connections.

    A mail that waits for a connection then goes back to the broker at once. A mail in a transaction
    has DRAIN_SECONDS to begin its content. Then it may wait for the reply to its final dot for
    SENDER_DRAIN_DOT_SECONDS.

    The sender is ready when it can consume commands. It is so while a relay is away: mail waits in
    the delay queues then, and no restart would help. Raises Unavailable, OSError.
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
        hasher = AddressHasher.from_text(settings.suppression_key)
        claims = ClaimStore(database, hasher, settings.sender_claim_seconds)
        stops = StopStore(database, hasher, claims.changes)
        relays = [_relay(settings, relay) for relay in settings.relays]
        builder = MailBuilder(
            Sealer.from_text(settings.sealing_key).open,
            settings.mail_defaults,
            settings.sender_dkim_keys,
            settings.return_paths,
        )
        throttle = Throttle(TokenBuckets(database, paces), settings.rates)
        pools = dict[Category, SmtpPool]()
        described = RelayHandlers(
            lambda: [state for name, pool in pools.items() for state in pool.states(name)],
            str(uuid.uuid4()),
            clock.now(),
        )
        subscriptions = [*_stop_subscriptions(StopHandlers(stops, claims, hasher), described)]
        for category in Category:
            pool = SmtpPool(relays, settings.limits(category), category, throttle, clock.now)
            pools[category] = await opened.enter_async_context(pool)
            handler = SendHandler(pool, builder, claims, clock.now, settings.schedule(category))
            subscriptions.append(_subscription(settings, category, handler))
        checks = {"broker": broker.ready, "database": database.ready}
        await opened.enter_async_context(
            health.endpoint(settings.health_host, settings.health_port, checks)
        )
        await opened.enter_async_context(_upkeep(claims, clock, stops, settings))
        copying = partial(ask_for_copy, stops, broker.publish)
        await opened.enter_async_context(
            lifecycle.repeating(copying, ASK_FOR_COPY_SECONDS, "copy of the suppression list")
        )
        async with broker.consuming(*subscriptions, drain=settings.drain_seconds):
            await stop.wait()


def _subscription(
    settings: SenderSettings, category: Category, handler: SendHandler
) -> Subscription:
    return Subscription(
        queue=sending_queue(category),
        handlers={SendEmail: handler.on_send_email},
        prefetch=settings.prefetch(category),
        limit_seconds=HANDLING_SECONDS,
        committed_seconds=settings.sender_drain_dot_seconds,
        shards=shard_queues(category),
    )


def _stop_subscriptions(handlers: StopHandlers, relays: RelayHandlers) -> tuple[Subscription, ...]:
    return (
        Subscription(
            SENDER_ADDRESSES,
            {
                SuppressionAdded: handlers.on_suppression,
                SuppressionRemoved: handlers.on_suppression,
                ForgetAddress: handlers.on_forget_address,
            },
            MAX_ENTRIES_IN_FLIGHT,
            limit_seconds=FORGET_SECONDS,
        ),
        Subscription.to_questions(
            SENDER_QUESTIONS,
            {
                CancelEmail: handlers.on_cancel_email,
                DescribeRelays: relays.on_describe_relays,
            },
            MAX_ENTRIES_IN_FLIGHT,
        ),
    )


@asynccontextmanager
async def _upkeep(
    claims: ClaimStore, clock: DatabaseClock, stops: StopStore, settings: SenderSettings
) -> AsyncIterator[None]:
    """Renew the claims of this process until its last mail is done, and purge old rows."""
    interval = settings.sender_claim_seconds / RENEWALS_PER_LEASE

    async def purge() -> None:
        await claims.purge(settings.sender_remember)
        await stops.purge(settings.sender_remember)

    async with (
        lifecycle.repeating(clock.ask, ASK_SECONDS, "the time"),
        lifecycle.repeating(claims.renew, interval, "renewal of claims"),
        lifecycle.repeating(purge, settings.sender_purge_seconds, "purge"),
    ):
        yield


def _relay(settings: SenderSettings, relay: RelaySettings) -> Relay:
    return Relay(
        host=relay.host,
        port=relay.port,
        tls=relay.tls,
        context=_context(relay),
        login=relay.login,
        helo_name=relay.helo_name or settings.sender_helo_name,
        timeouts=settings.timeouts,
        backoff=settings.backoff,
        weight=relay.weight,
        chunking=relay.chunking,
    )


def _context(relay: RelaySettings) -> ssl.SSLContext | None:
    """Return the TLS context of all connections, which checks names and certificates."""
    if relay.tls is Tls.NONE:
        return None
    context = ssl.create_default_context(cafile=relay.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8314 3
    return context
