"""The SMTP connections of one sending class: opened on demand, kept, replaced, closed."""

import asyncio
from dataclasses import dataclass
from typing import Self

from services.sender import metrics
from services.sender import reply as replies
from services.sender.compose import Mail
from services.sender.outcome import Replies, Unsendable
from services.sender.relay import Relay
from services.sender.smtp import Connection, Lost

# For all that comes before the final dot, so that even the slowest transaction, with ten minutes
# for the dot, ends before the broker takes the command back (30 minutes, RabbitMQ's default).
BEFORE_DOT_SECONDS = 780.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections, how many mails over each, and how long one is trusted when idle."""

    connections: int
    mails: int
    idle_seconds: float


class SmtpPool:
    """Sends mails over its own connections to the relay, as many at a time as it has.

    The `name` is that of the sending class, for the metrics.
    """

    def __init__(self, relay: Relay, limits: Limits, name: str) -> None:
        self._relay = relay
        self._limits = limits
        self._name = name
        self._slots = asyncio.Semaphore(limits.connections)
        self._idle: list[Connection] = []  # the latest used last

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take leave of the server on all connections."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*map(self._quit, idle))

    async def send(self, mail: Mail) -> Replies | Unsendable:
        """Run one transaction and give the reply that settled each recipient.

        A kept connection that turns out to be closed costs no attempt: nothing was said on it
        yet, so the mail goes over a new one at once. Whoever is cancelled here leaves no
        connection behind that could give its reply to another mail.
        """
        async with self._slots:
            with metrics.TRANSACTION.labels(self._name).time():
                deadline = asyncio.get_running_loop().time() + BEFORE_DOT_SECONDS
                kept = await self._kept()
                if kept is not None:
                    result = await self._over(kept, mail, deadline)
                    if not _was_closed(result):
                        return result
                    metrics.REPLACED.labels(self._name).inc()
                return await self._over_a_new_one(mail, deadline)

    async def _kept(self) -> Connection | None:
        """Give an idle connection in good order; let go of those that are not."""
        while self._idle:
            connection = self._idle.pop()
            if connection.mails >= self._limits.mails:
                # Before another is opened: the server may limit how many there are.
                await self._quit(connection)
            elif await self._is_good(connection):
                return connection
        return None

    async def _is_good(self, connection: Connection) -> bool:
        good = False
        try:
            good = connection.usable and (self._is_recent(connection) or await connection.answers())
        finally:
            if not good:
                metrics.REPLACED.labels(self._name).inc()
                self._drop(connection)
        return good

    def _is_recent(self, connection: Connection) -> bool:
        idle = asyncio.get_running_loop().time() - connection.idle_since
        return idle < self._limits.idle_seconds

    async def _over_a_new_one(self, mail: Mail, deadline: float) -> Replies | Unsendable:
        try:
            connection = await Connection.open(self._relay, deadline)
        except Lost as lost:
            metrics.NOT_OPENED.labels(self._name, lost.reply.stage).inc()
            return dict.fromkeys(mail.recipients, lost.reply)
        metrics.OPENED.labels(self._name).inc()
        return await self._over(connection, mail, deadline)

    async def _over(
        self, connection: Connection, mail: Mail, deadline: float
    ) -> Replies | Unsendable:
        try:
            return connection.objection(mail) or await connection.transact(mail, deadline)
        finally:
            if connection.usable:
                self._idle.append(connection)
            else:
                self._drop(connection)

    async def _quit(self, connection: Connection) -> None:
        try:
            await connection.quit()
        finally:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        connection.abort()
        metrics.CLOSED.labels(self._name).inc()
        metrics.MAILS.labels(self._name).observe(connection.mails)


def _was_closed(result: Replies | Unsendable) -> bool:
    return not isinstance(result, Unsendable) and any(map(replies.closed_before, result.values()))
