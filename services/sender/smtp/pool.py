"""The SMTP connections of one sending class, over one relay or several."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from services.sender import metrics
from services.sender.mail.compose import OutgoingMail
from services.sender.metrics import RelayMetrics
from services.sender.outcome import FailureReason, NotAttempted, SendResult, Unsendable
from services.sender.smtp.rate_limits import Throttle, domain_rate
from services.sender.smtp.relay import ConnectionLimits, Relay
from services.sender.smtp.relay_pool import RelayPool
from shared.contracts import Category, RelayState, Reply, Stage
from shared.contracts.address import domain_of
from shared.replies import reply as replies
from shared.runtime import tracing
from shared.runtime.tracing import Attributes, Span, SpanKind

# For all that comes before the final dot, so that even the slowest transaction, with ten minutes
# for the dot, ends before the broker takes the command back (30 minutes, RabbitMQ's default).
BEFORE_DOT_SECONDS = 780.0

# The rank of an answer: the further a relay went, the more its answer says about the mail.
_RANK_OF_LACK = {FailureReason.SMTPUTF8_NOT_OFFERED: 0, FailureReason.TOO_BIG: 1}
_RANK_REFUSED, _RANK_NOT_ATTEMPTED, _RANK_TEMPORARY = 2, 3, 4


@dataclass(frozen=True, slots=True)
class RelayAnswer:
    """The result of a mail at one relay, which may be `suspected` of refusing more than its sender.

    It is `final` if the same relay would answer the same again.
    """

    relay: str
    result: SendResult
    suspected: bool = False

    @property
    def final(self) -> bool:
        """Whether the relay need not be asked again."""
        return self.rank <= _RANK_REFUSED

    @property
    def rank(self) -> int:
        """Its rank among the answers of all relays: final refusals first."""
        match self.result:
            case NotAttempted():
                return _RANK_NOT_ATTEMPTED
            case Unsendable(reason):
                return _RANK_OF_LACK.get(reason, _RANK_REFUSED)
        final = all(map(replies.permanent, self.result.values()))
        return _RANK_REFUSED if final and not self.suspected else _RANK_TEMPORARY


def another_may_take(result: SendResult) -> bool:
    """Return whether another relay may take the mail.

    Another relay may have an extension that this one lacks, and accept a sender that this one
    refuses (RFC 6531 3.2).
    """
    match result:
        case NotAttempted():
            return True
        case Unsendable(reason):
            return reason in _RANK_OF_LACK
    return any(map(_is_before_rcpt, result.values()))


def best_answer(answers: Iterable[RelayAnswer]) -> RelayAnswer:
    """Choose the answer that counts: not a final one while one relay may still take the mail."""
    return max(answers, key=lambda each: each.rank)


def _span(relay: str, mail: OutgoingMail) -> Span:
    """Return the span of a mail at one relay, from the wait for a connection to the last reply."""
    host, _, port = relay.rpartition(":")
    attributes: Attributes = {
        "server.address": host,
        "server.port": int(port),
        "network.protocol.name": "smtp",
        "postrider.attempt": mail.progress.attempt,
        "postrider.smtp.recipients": len(mail.recipients),
    }
    return tracing.span("SMTP transaction", SpanKind.CLIENT, attributes)


def _describe(span: Span, result: SendResult) -> None:
    """Add the result of a mail to its span: codes without texts, which may have addresses.

    The codes are those of the reply that settled most recipients.
    """
    if not span.trace_id:  # nothing is recorded
        return
    match result:
        case NotAttempted(seconds):
            span.set({"postrider.smtp.not_attempted_seconds": seconds})
            return
        case Unsendable(reason):
            span.fail(reason)
            return
    found = Counter((each.stage, each.code, each.enhanced) for each in result.values())
    [((stage, code, enhanced), _)] = found.most_common(1)
    accepted = sum(map(replies.accepted, result.values()))
    about: Attributes = {
        "postrider.smtp.stage": stage,
        "postrider.smtp.reply_code": code,
        "postrider.smtp.enhanced_status": enhanced,
        "postrider.smtp.accepted": accepted,
    }
    span.set(about)
    if not accepted:
        span.fail(str(code) if code != replies.NO_REPLY else "no_reply")


def _is_before_rcpt(reply: Reply) -> bool:
    return reply.stage in replies.BEFORE_MAIL or reply.stage is Stage.MAIL


class WeightedRoundRobin:
    """Stride scheduling: each choice puts the chosen name back by one over its weight.

    A name that was not able for a while gets no burst of choices afterwards.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._strides = {name: 1 / weight for name, weight in weights.items()}
        self._due = dict.fromkeys(weights, 0.0)
        self._now = 0.0

    def next(self, able: Collection[str]) -> str:
        """Choose among the able names, at least one."""
        self._now, chosen = min((max(self._due[name], self._now), name) for name in able)
        self._due[chosen] = self._now + self._strides[chosen]
        return chosen


class SmtpPool:
    """Sends mails, each over one of its relays.

    `name` is that of the sending class, for the metrics; `now` is the clock by which mails expire.
    Each relay has at most `limits.connections` connections, and fewer if it serves fewer at a time.
    """

    def __init__(
        self,
        relays: Sequence[Relay],
        limits: ConnectionLimits,
        name: str,
        throttle: Throttle,
        now: Callable[[], datetime],
    ) -> None:
        self._name = name
        self._throttle = throttle
        self._pools = {
            relay.name: RelayPool(relay, limits, RelayMetrics(name, relay.name), throttle, now)
            for relay in relays
        }
        self._turns = WeightedRoundRobin({relay.name: relay.weight for relay in relays})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all idle connections with QUIT."""
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    def states(self, category: Category) -> Sequence[RelayState]:
        """Return what an operator wants to know of each relay, under the name of its class."""
        return [pool.state(category) for pool in self._pools.values()]

    async def send(self, mail: OutgoingMail) -> SendResult:
        """Run one transaction and return the reply that settled each recipient.

        A mail goes on to the next relay if one does not serve us or refuses it at MAIL. A refusal
        is final when all relays have refused. When no relay may be tried, or a rate is used up,
        nothing is attempted. Raises Retry when the database of the rates is away.
        """
        waits = {name: pool.wait for name, pool in self._pools.items()}
        able = {name for name, wait in waits.items() if not wait}
        if not able:
            metrics.POSTPONED.labels(self._name).inc()
            return NotAttempted(min(waits.values()))
        if seconds := await self._too_early(mail):
            metrics.THROTTLED.labels(self._name).inc()
            return NotAttempted(seconds)
        return await self._ask_in_turn(mail, able)

    async def _ask_in_turn(self, mail: OutgoingMail, able: set[str]) -> SendResult:
        deadline = asyncio.get_running_loop().time() + BEFORE_DOT_SECONDS
        answers: list[RelayAnswer] = []
        while able:
            name = self._next(able, mail)
            able.remove(name)
            with _span(name, mail) as span:
                result = await self._pools[name].send(mail, deadline, is_last=not able)
                _describe(span, result)
            if not another_may_take(result):
                return result
            answers.append(RelayAnswer(name, result, mail.progress.suspected))
            able = {each for each in able if not self._pools[each].wait}
        return self._result(mail, answers)

    def _result(self, mail: OutgoingMail, answers: list[RelayAnswer]) -> SendResult:
        """Return the result that counts; a relay that was not tried may still take the mail."""
        best = best_answer(reversed(answers))
        if not isinstance(best.result, NotAttempted):
            mail.progress.relay, mail.progress.suspected = best.relay, best.suspected
        untried = self._pools.keys() - {each.relay for each in answers}
        if best.final and untried:
            metrics.POSTPONED.labels(self._name).inc()
            return NotAttempted(min(self._pools[each].wait for each in untried))
        return best.result

    def _next(self, able: set[str], mail: OutgoingMail) -> str:
        """Choose a relay: first one that has not refused the sender, then one with capacity."""
        if len(able) > 1:
            able = {each for each in able if not self._pools[each].avoids(mail)} or able
            able = {each for each in able if self._pools[each].has_capacity} or able
        return self._turns.next(able)

    async def _too_early(self, mail: OutgoingMail) -> float:
        """Use the rates of its domains; return 0.0, or how many seconds it is too early."""
        if not self._throttle.limits:
            return 0.0
        # None of them waits for long: it would hold up mails for other domains.
        domains = Counter(domain_rate(domain_of(each)) for each in mail.recipients)
        return await self._throttle.wait(domains, (self, mail.client))
