"""Mails and pools as tests need them."""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime

from services.sender.mail.compose import OutgoingMail
from services.sender.outcome import NotAttempted, Replies, Unsendable
from services.sender.schedule import Backoff
from services.sender.smtp.pool import SmtpPool
from services.sender.smtp.rate_limits import Throttle
from services.sender.smtp.relay import ConnectionLimits, Login, Relay, Timeouts, Tls
from shared.contracts import Reply, Stage
from shared.storage.rate import Rate
from tests.waiting import until

CONTENT = b"Subject: Hello\r\n\r\nHow are you?\r\n"
SHORT = Timeouts(60, 60, 60)
NO_REST = Backoff(0, 0)
ANNA = "anna@x.example"


def a_relay(
    port: int,
    tls: Tls = Tls.NONE,
    context: ssl.SSLContext | None = None,
    login: Login | None = None,
    timeouts: Timeouts = SHORT,
) -> Relay:
    """Return a relay on this machine with short timeouts and no pauses."""
    return Relay(
        "127.0.0.1",
        port,
        tls,
        context,
        login,
        timeouts=timeouts,
        backoff=NO_REST,
    )


class Full:
    """Token buckets that are never empty."""

    async def take(self, name: str, count: int, room: int, rate: Rate) -> float:
        """Allow any number."""
        del name, count, room, rate
        return 0.0


UNLIMITED = Throttle(Full(), {})


def a_pool(
    *relays: Relay,
    connections: int = 1,
    mails: int = 100,
    idle_seconds: float = 60,
    kept_seconds: float = 5,
    throttle: Throttle = UNLIMITED,
) -> SmtpPool:
    """Return a pool, by default of one connection."""
    limits = ConnectionLimits(connections, mails, idle_seconds, kept_seconds)
    return SmtpPool(relays, limits, "test", throttle, lambda: datetime.now(UTC))


def a_mail(
    *recipients: str,
    sender: str = "post@our.example",
    content: bytes = CONTENT,
    needs_smtputf8: bool = False,
) -> OutgoingMail:
    """Return a mail for some recipients, by default anna."""
    return OutgoingMail(sender, recipients or (ANNA,), content, needs_smtputf8)


def of(result: Replies | Unsendable | NotAttempted) -> Mapping[str, Reply]:
    """Return the replies by recipient."""
    assert not isinstance(result, Unsendable | NotAttempted)
    return result


def ends(result: Replies | Unsendable | NotAttempted) -> list[tuple[Stage, int]]:
    """Return stage and code for each recipient."""
    return [(reply.stage, reply.code) for reply in of(result).values()]


async def opened(pool: SmtpPool) -> None:
    """Wait until no connection is being opened, by now perhaps for nobody."""

    async def is_so() -> bool:
        return not any(each._opening for each in pool._pools.values())

    await until(is_so)


async def sent(pool: SmtpPool, *recipients: str) -> list[tuple[Stage, int]]:
    """Send a mail and return stage and code for each recipient."""
    return ends(await pool.send(a_mail(*recipients)))
