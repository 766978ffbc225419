"""One relay as one sending class uses it: connections opened on demand, kept, replaced, closed."""

import asyncio
import math
import random
import time
from collections.abc import Callable
from datetime import datetime

from services.sender.mail.compose import OutgoingMail
from services.sender.metrics import RelayMetrics
from services.sender.outcome import FailureReason, Replies, Unsendable
from services.sender.replies import reply as replies
from services.sender.smtp.circuit_breaker import CircuitBreaker, NotAttempted, SenderRefusals
from services.sender.smtp.concurrency import AdaptiveLimit, ConcurrencyLimiter, is_pushback
from services.sender.smtp.connect import connect
from services.sender.smtp.connection import ConnectionLost, SmtpConnection
from services.sender.smtp.extensions import Pipelining
from services.sender.smtp.rate_limits import Throttle, relay_rate
from services.sender.smtp.relay import ConnectionLimits, Relay
from shared.contracts import Reply, Stage

TURN_SECONDS = 20.0  # a mail that waits longer for its turn does so on the delay ladder


class RelayPool:
    """The road to one relay; `now` is the clock that mails expire by."""

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
        self._rest = CircuitBreaker(relay.backoff)
        self._senders = SenderRefusals()
        self._idle: list[SmtpConnection] = []  # the latest used last
        self._busy = 0
        self._gate = ConcurrencyLimiter(AdaptiveLimit(limits.connections))
        self._pipelining = Pipelining()

    @property
    def free(self) -> bool:
        """Whether a mail would have its turn at once."""
        return self._gate.free

    @property
    def wait(self) -> float:
        """Tell for how many seconds not to use it; a connection that is open may be used now."""
        if any(connection.usable for connection in self._idle):
            return 0.0
        return self._rest.wait(_clock())

    async def close(self) -> None:
        """Take leave of the server on all idle connections."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*map(self._quit, idle))

    async def send(
        self, mail: OutgoingMail, deadline: float
    ) -> Replies | Unsendable | NotAttempted:
        """Run one transaction and return the reply that settled each recipient.

        `deadline`, in the loop's time, is for all that comes before the final dot. A kept
        connection that turns out to be closed, or that has had all the mails that the server takes
        over one, costs no attempt: no content was sent, so the mail goes over a new one at once. A
        cancellation leaves no connection behind that could give its reply to another mail.
        """
        if self._throttle.limits and (seconds := await self._throttle.wait(self._rate)):
            self._metrics.throttled.inc()
            return NotAttempted(seconds)
        if not await self._gate.enter(TURN_SECONDS):
            return NotAttempted(TURN_SECONDS)
        try:
            # Others may have found out in the meantime that the relay is away.
            wait = self.wait
            return NotAttempted(wait) if wait else await self._tried(mail, deadline)
        finally:
            self._gate.leave()

    def declines(self, mail: OutgoingMail) -> bool:
        """Return whether it has refused the sender of the mail of late."""
        return self._senders.declines(_sender(mail), _clock())

    async def _tried(self, mail: OutgoingMail, deadline: float) -> Replies | Unsendable:
        self._rest.begin()
        mail.progress.relay, mail.progress.suspected = self._name, False
        begun, timer = _clock(), time.perf_counter()
        try:
            result = await self._sent(mail, deadline)
        finally:
            self._rest.end()
            self._metrics.transaction.observe(time.perf_counter() - timer)
        if not isinstance(result, Unsendable):
            await self._judge(mail, result, begun)
        return result

    async def _sent(self, mail: OutgoingMail, deadline: float) -> Replies | Unsendable:
        kept = await self._kept(mail)
        if kept is not None:
            result = await self._over(kept, mail, deadline, self._limits.kept_seconds)
            gone = kept.used_up or (
                not isinstance(result, Unsendable) and _any(result, replies.closed_before)
            )
            if not gone:
                return result
            self._metrics.replaced.inc()
        try:
            connection = await connect(self.relay, deadline)
        except ConnectionLost as lost:
            self._metrics.not_opened(lost.reply.stage)
            return dict.fromkeys(mail.recipients, lost.reply)
        self._metrics.opened()
        return await self._over(connection, mail, deadline)

    async def _judge(self, mail: OutgoingMail, heard: Replies, begun: float) -> None:
        """Rest the relay if it does not serve us, send it less if it asks for that.

        What can be the fault of one mail does neither: each client would do it to all others.
        """
        blamed = rests = False
        if all(map(replies.accepted, heard.values())):
            self._senders.taken(_sender(mail), begun)
        elif _any(heard, _not_opened):
            blamed = True
            # While other connections work, one that cannot be opened is one too many.
            rests = not self._busy and self._rest.failed(_clock(), _chance())
        elif _any(heard, _not_taken):
            blamed = self._senders.refused(_sender(mail), _clock())
            mail.progress.suspected = self._senders.suspects(_sender(mail))
            rests = blamed and _any(heard, _not_begun) and self._rest.doubted(_clock(), _chance())
        elif not _any(heard, _ends_at_mail):
            self._senders.taken(_sender(mail), begun)
        if not blamed and not self._senders.suspicious:
            self._rest.succeeded()
        if rests:
            self._metrics.rests.inc()
            await self.close()
        if blamed and _any(heard, is_pushback):
            self._metrics.pushed_back.inc()
            self._gate.pushed_back()

    async def _kept(self, mail: OutgoingMail) -> SmtpConnection | None:
        """Return an idle connection in good order; close those that are not, or are used up."""
        while self._idle:
            connection = self._idle.pop()
            used_up = connection.mails >= self._most_mails(connection)
            if used_up or not connection.has_room(mail):
                # Before another is opened: the server may limit how many there are.
                await self._quit(connection)
            elif not connection.usable:
                self._replace(connection)
            elif self._is_recent(connection) or await self._answers(connection):
                return connection
        return None

    async def _answers(self, connection: SmtpConnection) -> bool:
        """Ask a connection whether it is there; without an answer those as old are given up too.

        What took one away without a sign, such as a firewall that forgot it, took them all.
        """
        good = False
        try:
            good = await connection.answers(self._limits.kept_seconds)
        finally:
            if not good:
                self._replace(connection)
                for each in [e for e in self._idle if e.idle_since <= connection.idle_since]:
                    self._idle.remove(each)
                    self._replace(each)
        return good

    def _replace(self, connection: SmtpConnection) -> None:
        self._metrics.replaced.inc()
        self._drop(connection)

    def _most_mails(self, connection: SmtpConnection) -> int:
        ours, theirs = self._limits.mails, connection.offers.mails
        return ours if theirs is None else min(ours, theirs)

    def _is_recent(self, connection: SmtpConnection) -> bool:
        return _clock() - connection.idle_since < self._limits.idle_seconds

    async def _over(
        self,
        connection: SmtpConnection,
        mail: OutgoingMail,
        deadline: float,
        mail_seconds: float = math.inf,
    ) -> Replies | Unsendable:
        self._busy += 1
        try:
            return self._objection(connection, mail) or await self._transacted(
                connection, mail, deadline, mail_seconds
            )
        finally:
            self._busy -= 1
            if not connection.usable:
                self._drop(connection)
            elif connection.used_up:
                await self._quit(connection)
            else:
                self._idle.append(connection)

    def _objection(self, connection: SmtpConnection, mail: OutgoingMail) -> Unsendable | None:
        if mail.not_after is not None and self._now() >= mail.not_after:
            return Unsendable(FailureReason.EXPIRED)
        return connection.offers.objection(mail)

    async def _transacted(
        self, connection: SmtpConnection, mail: OutgoingMail, deadline: float, mail_seconds: float
    ) -> Replies:
        group = len(mail.recipients)
        pipelined = connection.offers.pipelining and self._pipelining.copes(group, _clock())
        result = await connection.transact(
            mail, deadline, pipelined=pipelined, mail_seconds=mail_seconds
        )
        self._metrics.transacted(pipelined=pipelined)
        if connection.stumbled:
            self._metrics.stumbled.inc()
            self._pipelining.stumbled(group, _clock())
        elif pipelined and connection.usable:
            self._pipelining.coped(group)
        return result

    async def _quit(self, connection: SmtpConnection) -> None:
        try:
            await connection.quit()
        finally:
            self._drop(connection)

    def _drop(self, connection: SmtpConnection) -> None:
        connection.abort()
        self._metrics.closed(connection.mails)


def _any(heard: Replies, what: Callable[[Reply], bool]) -> bool:
    return any(map(what, heard.values()))


def _not_opened(reply: Reply) -> bool:
    return reply.stage in replies.BEFORE_MAIL


def _ends_at_mail(reply: Reply) -> bool:
    return reply.stage is Stage.MAIL


def _not_taken(reply: Reply) -> bool:
    """Return whether MAIL was not accepted, for reasons that lie in the sender or the relay."""
    return _not_begun(reply) or (reply.stage is Stage.MAIL and is_pushback(reply))


def _not_begun(reply: Reply) -> bool:
    """Return whether it ended at MAIL by a closed connection, or for good as far as we know."""
    ours = replies.about_us(reply) and reply.stage is Stage.MAIL
    return ours or replies.closed_before(reply) or replies.sender_refused(reply)


def _sender(mail: OutgoingMail) -> tuple[str, bool]:
    """Return all that MAIL depends on but the size."""
    return mail.sender, mail.needs_smtputf8


def _chance() -> float:
    return random.random()  # noqa: S311 -- jitter, not a secret


def _clock() -> float:
    return asyncio.get_running_loop().time()
