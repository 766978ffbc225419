"""The wiring of the console."""

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import aiohttp
import structlog

from services.console import logouts, queues, relays, traffic
from services.console.app import Pages, build_app
from services.console.audit import Audit
from services.console.config import ConsoleSettings
from services.console.context import PageContext
from services.console.letters import DeadLetters
from services.console.login import LOGIN_PATH, LOGINS_SECONDS, MAX_LOGINS, LoginPages
from services.console.logouts import EndedSessions
from services.console.oidc import OidcProvider
from services.console.operators import Operators
from services.console.pages.audit import AuditPages
from services.console.pages.clients import ClientPages
from services.console.pages.content import ContentPages
from services.console.pages.dead_letters import DeadLetterPages
from services.console.pages.domains import DomainPages
from services.console.pages.messages import MessagePages
from services.console.pages.overview import OverviewPages
from services.console.pages.relays import RelayPages
from services.console.pages.runs import RunPages
from services.console.pages.subscriptions import SubscriptionPages
from services.console.pages.suppressions import SuppressionPages
from services.console.pages.webhooks import WebhookPages
from services.console.rendering import PageRenderer
from services.console.sampling import STOPPED_SAMPLE_SECONDS, Sampler
from services.console.sessions import Sessions
from services.console.store import MIGRATIONS, ActionStore, EndedSessionStore
from shared.broker import Broker
from shared.runtime import health, lifecycle
from shared.storage.database import Database
from shared.storage.rate import LocalRateLimiter

PURGE_SECONDS = 3600.0

logger = structlog.get_logger(__name__)


async def run(settings: ConsoleSettings, stop: asyncio.Event) -> None:
    """Serve the pages until `stop` is set, then what is under way."""
    async with serving(settings) as port:
        logger.info("listening", host=settings.console_host, port=port)
        await stop.wait()


@asynccontextmanager
async def serving(settings: ConsoleSettings) -> AsyncIterator[int]:
    """Open everything, yield the port, and serve until the block is left.

    Raises Unavailable or OSError when the broker, the database or the port cannot be had.
    """
    async with (
        Database.open(
            settings.service, settings.database_url, settings.data_dir, MIGRATIONS
        ) as database,
        Broker.connect(settings.amqp_url, settings.service) as broker,
        aiohttp.ClientSession() as http,
    ):
        store = ActionStore(database, settings.console_audit_days)
        ended = EndedSessionStore(database)
        operators = Operators(
            settings.console_token,
            settings.console_oidc_issuer,
            settings.console_oidc_viewers,
            settings.console_oidc_actors,
        )
        context = _context(settings, broker, operators, EndedSessions(ended), store)
        sampler = Sampler(context, _now)
        checks = {"broker": broker.ready, "database": database.ready}
        async with (
            lifecycle.repeating(sampler.look_at_queues, queues.SAMPLE_SECONDS, "look at queues"),
            lifecycle.repeating(sampler.look_at_relays, relays.SAMPLE_SECONDS, "look at relays"),
            lifecycle.repeating(sampler.look_at_traffic, traffic.SAMPLE_SECONDS, "look at mails"),
            lifecycle.repeating(
                sampler.look_at_webhooks, STOPPED_SAMPLE_SECONDS, "look at webhooks"
            ),
            lifecycle.repeating(sampler.look_at_content, STOPPED_SAMPLE_SECONDS, "look at content"),
            lifecycle.repeating(context.ended.look, logouts.LOOK_SECONDS, "look at ended sessions"),
            lifecycle.repeating(store.purge, PURGE_SECONDS, "purge of the audit"),
            lifecycle.repeating(ended.purge, PURGE_SECONDS, "purge of ended sessions"),
            health.endpoint(settings.health_host, settings.health_port, checks),
            health.serving(
                build_app(
                    context,
                    _login(settings, context, operators, http),
                    _pages(context, sampler, store),
                    checks,
                    settings.console_proxies,
                ),
                settings.console_host,
                settings.console_port,
                settings.drain_seconds,
            ) as port,
        ):
            yield port


def _context(
    settings: ConsoleSettings,
    broker: Broker,
    operators: Operators,
    ended: EndedSessions,
    store: ActionStore,
) -> PageContext:
    key, seconds = settings.console_session_key, settings.console_session_seconds
    sessions = Sessions.from_text(key, seconds, time.time, _new_id, operators)
    return PageContext(
        broker,
        PageRenderer.of(_now),
        sessions,
        ended,
        Audit(store, _new_id),
        settings.console_answer_seconds,
        _new_id,
    )


def _login(
    settings: ConsoleSettings,
    context: PageContext,
    operators: Operators,
    http: aiohttp.ClientSession,
) -> LoginPages:
    return LoginPages(
        context,
        operators,
        LocalRateLimiter(MAX_LOGINS, LOGINS_SECONDS, time.monotonic),
        (settings.console_url or "").startswith("https:"),
        _provider(settings, http),
        partial(secrets.token_urlsafe, 32),
    )


def _provider(settings: ConsoleSettings, http: aiohttp.ClientSession) -> OidcProvider | None:
    if settings.console_oidc_issuer is None:
        return None
    return OidcProvider(
        http,
        settings.console_oidc_issuer,
        settings.console_oidc_client_id,
        settings.console_oidc_client_secret,
        f"{(settings.console_url or '').rstrip('/')}{LOGIN_PATH}/callback",
    )


def _pages(context: PageContext, sampler: Sampler, store: ActionStore) -> list[Pages]:
    return [
        OverviewPages(context, sampler),
        MessagePages(context),
        RelayPages(context, sampler),
        DeadLetterPages(context, sampler, DeadLetters(context.broker)),
        SuppressionPages(context),
        DomainPages(context),
        WebhookPages(context),
        ContentPages(context),
        RunPages(context),
        SubscriptionPages(context),
        ClientPages(context),
        AuditPages(context, store),
    ]


def _now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return str(uuid.uuid4())
