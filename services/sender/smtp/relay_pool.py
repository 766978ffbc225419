"""A pool of SMTP connections to one relay: opened on demand, kept, replaced, closed."""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import structlog

from services.sender.mail.compose import OutgoingMail
from services.sender.metrics import RelayMetrics
from services.sender.outcome import FailureReason, NotAttempted, Replies, SendResult, Unsendable
from services.sender.smtp import commands
from services.sender.smtp.circuit_breaker import CircuitBreaker, SenderRefusals
from services.sender.smtp.concurrency import AdaptiveLimit, ConcurrencyLimiter
from services.sender.smtp.connect import connect
from services.sender.smtp.connection import SmtpConnection
from services.sender.smtp.rate_limits import Throttle, relay_rate
from services.sender.smtp.relay import Chunking, ConnectionLimits, ContentMode, Pipelining, Relay
from services.sender.smtp.transaction import ConnectionLost
from shared.contracts import Category, CircuitState, RelayState
from shared.replies import reply as replies

logger = structlog.get_logger(__name__)

MAX_QUEUE_SECONDS = 20.0  # a mail that would wait longer goes through a delay queue


class RelayPool:
    """The connections of one sending class to one relay; `now` is the clock of mails' expiry.

    A server may greet after minutes (RFC 5321 4.5.3.2.1). So a mail takes whichever comes first:
    the connection that is opened for it, or one that another mail leaves. At least as many are
    being opened as mails wait, so that each gets one, or a failure.
    """

    def __init__(
        self,
        relay: Relay,
        limits: ConnectionLimits,
        metrics: RelayMetrics,
        throttle: Throttle,
        now: Callable[[], datetime],
    ) -> None:
        self.relay = relay
        self._throttle = throttle
        self._limits = limits
        self._metrics = metrics
        self._now = now
        self._name, self._rate = relay.name, {relay_rate(relay.name): 1}
        self._breaker = CircuitBreaker(relay.backoff)
        self._senders = SenderRefusals()
        self._idle: list[SmtpConnection] = []  # the latest used last
        self._busy = 0
        self._waiting: deque[asyncio.Future[SmtpConnection]] = deque()
        self._opening: list[asyncio.Task[None]] = []
        self._limiter = ConcurrencyLimiter(AdaptiveLimit(limits.connections))
        self._pipelining = Pipelining()
        self._chunking = Chunking(enabled=relay.chunking)

    @property
    def has_capacity(self) -> bool:
        """Whether a mail would be sent at once."""
        return self._limiter.has_capacity

    @property
    def wait(self) -> float:
        """For how many seconds not to use it; 0.0 while a connection is open."""
        if any(connection.usable for connection in self._idle):
            return 0.0
        return self._breaker.wait(_clock())

    def state(self, category: Category) -> RelayState:
        """Return what an operator wants to know of it."""
        pause, failures = self._breaker.wait(_clock()), self._breaker.failures
        held = CircuitState.OPEN if pause else CircuitState.PROBING
        return RelayState(
            relay=self._name,
            category=category,
            idle=len(self._idle),
            busy=self._busy,
            opening=len(self._opening),
            mails=self._limiter.active,
            limit=self._limiter.limit,
            max_connections=self._limits.connections,
            circuit=held if failures else CircuitState.CLOSED,
            pause_seconds=pause,
            failures=failures,
            rate=self._throttle.per_second(relay_rate(self._name)),
        )

    async def close(self) -> None:
        """Close all idle connections with QUIT, and open none that no mail waits for."""
        if surplus := self._cancel_surplus():
            await asyncio.wait(surplus)
        await self._close_idle()

    async def _close_idle(self) -> None:
        idle, self._idle = self._idle, []
        await asyncio.gather(*map(self._quit, idle))

    async def send(
        self, mail: OutgoingMail, deadline: float, *, is_last: bool = True
    ) -> SendResult:
        """Run one transaction and return the reply that settled each recipient.

        `deadline`, in the loop's time, is for all that comes before the final dot. A kept
        connection that turns out to be closed, or exhausted, costs no attempt: no content was sent,
        so the mail goes over a new one at once. Only the last relay that the mail may try has it
        wait long for the relay's rate. A cancellation leaves no connection behind whose
        reply could be read as that to another mail.
        """
        if self._throttle.limits:
            flow = (self, mail.client)
            if seconds := await self._throttle.wait(self._rate, flow, patient=is_last):
                self._metrics.throttled.inc()
                return NotAttempted(seconds)
        if not await self._limiter.acquire(MAX_QUEUE_SECONDS, mail.client):
            return NotAttempted(MAX_QUEUE_SECONDS)
        try:
            # Other mails may have found out in the meantime that the relay is away.
            wait = self.wait
            return NotAttempted(wait) if wait else await self._attempt(mail, deadline)
        finally:
            self._limiter.release()

    def avoids(self, mail: OutgoingMail) -> bool:
        """Return whether the relay has refused the sender of the mail of late."""
        return self._senders.avoids(_sender(mail), _clock())

    async def _attempt(self, mail: OutgoingMail, deadline: float) -> Replies | Unsendable:
        self._breaker.begin()
        mail.progress.relay, mail.progress.suspected = self._name, False
        begun, timer = _clock(), time.perf_counter()
        try:
            result = await self._send(mail, deadline)
        finally:
            self._breaker.end()
            self._metrics.transaction.observe(time.perf_counter() - timer)
        if not isinstance(result, Unsendable):
            await self._judge(mail, result, begun)
        return result

    async def _send(self, mail: OutgoingMail, deadline: float) -> Replies | Unsendable:
        """Send a mail, over no more than two kept connections that turn out to be gone.

        The mail itself may be why the relay closes them. A second one has just served another mail,
        since what ended the first may have ended all that are idle.
        """
        kept = await self._kept(mail)
        try:
            for _ in range(2):
                over = (kept, True) if kept else await self._left_or_new(mail, deadline)
                connection, is_kept = over
                seconds = self._limits.kept_seconds if is_kept else math.inf
                result = await self._send_over(connection, mail, deadline, seconds)
                if is_kept and connection.is_gone(result):
                    self._metrics.replaced.inc()
                elif not connection.may_repeat(result):
                    return result
                kept = None
            connection = await self._connect(deadline)
        except ConnectionLost as lost:
            return dict.fromkeys(mail.recipients, lost.reply)
        return await self._send_over(connection, mail, deadline)

    async def _left_or_new(
        self, mail: OutgoingMail, deadline: float
    ) -> tuple[SmtpConnection, bool]:
        """Return a connection, and whether it was in use before. Raises ConnectionLost."""
        while (connection := await self._next(deadline)).mails:
            self._idle.append(connection)
            if kept := await self._kept(mail):
                return kept, True
        return connection, False

    async def _next(self, deadline: float) -> SmtpConnection:
        """Wait for a connection that another mail leaves or that is opened, whichever is first."""
        free: asyncio.Future[SmtpConnection] = asyncio.get_running_loop().create_future()
        self._waiting.append(free)
        if len(self._opening) < len(self._waiting):
            self._opening.append(asyncio.create_task(self._open(deadline), name="open"))
        try:
            return await free
        except asyncio.CancelledError:
            if free.done() and not free.cancelled() and free.exception() is None:
                self._pass_on(free.result())
            with suppress(ValueError):
                self._waiting.remove(free)
            self._cancel_surplus()
            raise

    async def _open(self, deadline: float) -> None:
        """Open a connection for the mail that has waited longest, or to be idle."""
        task = asyncio.current_task()
        try:
            connection = await self._connect(deadline)
        except Exception as error:
            self._opening = [each for each in self._opening if each is not task]
            enough = len(self._opening) >= len(self._waiting)
            if not enough and (free := self._longest_waiting()) is not None:
                free.set_exception(error)
            elif isinstance(error, ConnectionLost):
                works = self._busy or self._idle
                pauses = not works and self._breaker.failed(_clock(), _chance())
                await self._blame(pauses=pauses, pushes_back=replies.is_pushback(error.reply))
            else:
                raise
            return
        self._opening = [each for each in self._opening if each is not task]
        self._pass_on(connection)

    async def _connect(self, deadline: float) -> SmtpConnection:
        try:
            connection = await connect(self.relay, deadline)
        except ConnectionLost as lost:
            self._metrics.not_opened(lost.reply.stage)
            raise
        self._metrics.opened()
        return connection

    def _pass_on(self, connection: SmtpConnection) -> None:
        """Pass a connection to the mail that has waited longest, or keep it idle."""
        if (free := self._longest_waiting()) is not None:
            free.set_result(connection)
        else:
            self._idle.append(connection)

    def _longest_waiting(self) -> asyncio.Future[SmtpConnection] | None:
        while self._waiting:
            free = self._waiting.popleft()
            if not free.done():  # else it was cancelled
                return free
        return None

    def _cancel_surplus(self) -> list[asyncio.Task[None]]:
        """Open no more connections than mails wait; return the tasks that end."""
        count = len(self._opening) - len(self._waiting)
        surplus = [self._opening.pop() for _ in range(count)]
        for each in surplus:
            each.cancel()
        return surplus

    async def _judge(self, mail: OutgoingMail, result: Replies, begun: float) -> None:
        """Pause the relay if it does not serve us; send it less if it asks for that.

        A reply that can be the fault of one mail does neither: any client could cause it to the
        harm of all others.
        """
        blamed = pauses = False
        if all(map(replies.accepted, result.values())):
            self._senders.accepted(_sender(mail), begun)
        elif replies.any_of(result, replies.not_opened):
            blamed = True
            # While other connections work, one that cannot be opened is one too many.
            pauses = not self._busy and self._breaker.failed(_clock(), _chance())
        elif replies.any_of(result, replies.not_taken):
            blamed = self._senders.refused(_sender(mail), _clock())
            mail.progress.suspected = self._senders.suspects(_sender(mail))
            doubtful = blamed and replies.any_of(result, replies.not_begun)
            pauses = doubtful and self._breaker.doubted(_clock(), _chance())
        elif not replies.any_of(result, replies.ends_at_mail):
            self._senders.accepted(_sender(mail), begun)
        if not blamed and not self._senders.suspicious:
            self._breaker.succeeded()
        pushes_back = blamed and replies.any_of(result, replies.is_pushback)
        await self._blame(pauses=pauses, pushes_back=pushes_back)

    async def _blame(self, *, pauses: bool, pushes_back: bool) -> None:
        if pauses:
            self._metrics.pauses.inc()
            await self._close_idle()
        if pushes_back:
            self._metrics.pushed_back.inc()
            self._limiter.pushed_back()

    async def _kept(self, mail: OutgoingMail) -> SmtpConnection | None:
        """Return a usable idle connection; close those that are not, or have no room."""
        trusted = self._limits.idle_seconds
        while self._idle:
            connection = self._idle.pop()
            if connection.is_full(self._limits.mails) or not connection.has_room(mail):
                # Before another is opened: the server may limit how many there are.
                await self._quit(connection)
            elif not connection.usable:
                self._replace(connection)
            elif connection.is_recent(trusted) or await self._is_alive(connection):
                return connection
        return None

    async def _is_alive(self, connection: SmtpConnection) -> bool:
        """Check a connection; without an answer drop it, and those that are idle for as long.

        A cause that shows no sign, such as a firewall that forgot it, has ended them all.
        """
        alive = False
        try:
            alive = await connection.is_alive(self._limits.kept_seconds)
        finally:
            if not alive:
                self._replace(connection)
                for each in [e for e in self._idle if e.idle_since <= connection.idle_since]:
                    self._idle.remove(each)
                    self._replace(each)
        return alive

    def _replace(self, connection: SmtpConnection) -> None:
        self._metrics.replaced.inc()
        self._drop(connection)

    async def _send_over(
        self,
        connection: SmtpConnection,
        mail: OutgoingMail,
        deadline: float,
        mail_seconds: float = math.inf,
    ) -> Replies | Unsendable:
        self._busy += 1
        try:
            # The mail may have waited long for its connection, and the connection has no mail yet.
            await mail.progress.check(mail.recipients)
            if mail.to_7bit is not None and not connection.extensions.eight_bit:
                mail = await asyncio.to_thread(mail.in_7bit)
            return self._objection(connection, mail) or await self._transact(
                connection, mail, deadline, mail_seconds
            )
        finally:
            self._busy -= 1
            if not connection.usable:
                self._drop(connection)
            elif connection.exhausted:
                await self._quit(connection)
            else:
                self._pass_on(connection)

    def _objection(self, connection: SmtpConnection, mail: OutgoingMail) -> Unsendable | None:
        if mail.not_after is not None and self._now() >= mail.not_after:
            return Unsendable(FailureReason.EXPIRED)
        return connection.extensions.objection(mail)

    async def _transact(
        self, connection: SmtpConnection, mail: OutgoingMail, deadline: float, mail_seconds: float
    ) -> Replies:
        group, now, mode = len(mail.recipients), _clock(), ContentMode.DATA
        pipelined = connection.extensions.pipelining and self._pipelining.allows(group, now)
        if pipelined and connection.extensions.chunking:
            mode = self._chunking.mode(len(mail.content), now - connection.idle_since, now)
            if mode is ContentMode.TRIAL and not commands.may_be_tried(mail.content):
                mode = ContentMode.DATA
        result = await connection.transact(
            mail, deadline, pipelined=pipelined, mode=mode, mail_seconds=mail_seconds
        )
        self._metrics.transacted(pipelined=pipelined, in_chunks=mode is not ContentMode.DATA)
        if connection.pipelining_failed:
            self._metrics.pipelining_failed.inc()
            self._pipelining.failed(group, _clock())
        elif pipelined and connection.usable:
            self._pipelining.succeeded(group)
        if connection.chunking_failed:
            self._chunking_failed(result)
        elif mode is ContentMode.TRIAL and replies.any_of(result, replies.accepted):
            self._chunking.succeeded()
        return result

    def _chunking_failed(self, result: Replies) -> None:
        if self._chunking.failed(_clock()):
            self._metrics.chunking_failed.inc()
            reply = next(iter(result.values()))
            why = {"stage": reply.stage, "reply": replies.masked(reply.text)}
            logger.warning("the relay failed at BDAT: it has DATA now", relay=self._name, **why)

    async def _quit(self, connection: SmtpConnection) -> None:
        try:
            await connection.quit()
        finally:
            self._drop(connection)

    def _drop(self, connection: SmtpConnection) -> None:
        connection.abort()
        self._metrics.closed(connection.mails)


def _sender(mail: OutgoingMail) -> tuple[str, bool]:
    """Return all that MAIL depends on but the size."""
    return mail.sender, mail.needs_smtputf8


def _chance() -> float:
    return random.random()  # noqa: S311 -- jitter, not a secret


def _clock() -> float:
    return asyncio.get_running_loop().time()
