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
from services.sender.outcome import FailureReason, Replies, Unsendable
from services.sender.replies import reply as replies
from services.sender.smtp.circuit_breaker import NotAttempted
from services.sender.smtp.rate_limits import Throttle, domain_rate
from services.sender.smtp.relay import ConnectionLimits, Relay
from services.sender.smtp.relay_pool import RelayPool
from shared.contracts import Reply, Stage
from shared.contracts.address import domain_of

# For all that comes before the final dot, so that even the slowest transaction, with ten minutes
# for the dot, ends before the broker takes the command back (30 minutes, RabbitMQ's default).
BEFORE_DOT_SECONDS = 780.0


# The worth of an answer to the sender of the mail. The further a relay went, the more it tells.
_LACKS = {FailureReason.SMTPUTF8_NOT_OFFERED: 0, FailureReason.TOO_BIG: 1}
_REFUSED = 2
_POSTPONED = 3
_TEMPORARY = 4


@dataclass(frozen=True, slots=True)
class RelayAnswer:
    """The result of a mail at one relay, which may be `suspected` of refusing more than its sender.

    It is `final` if the same relay would say the same again.
    """

    relay: str
    result: Replies | Unsendable | NotAttempted
    suspected: bool = False

    @property
    def final(self) -> bool:
        """Whether the relay need not be asked again."""
        return self.worth <= _REFUSED

    @property
    def worth(self) -> int:
        """Its rank among results: the reasons of final refusals first, then those with hope."""
        match self.result:
            case NotAttempted():
                return _POSTPONED
            case Unsendable(reason):
                return _LACKS.get(reason, _REFUSED)
        final = all(map(replies.permanent, self.result.values()))
        return _REFUSED if final and not self.suspected else _TEMPORARY


def best(asked: Iterable[RelayAnswer]) -> RelayAnswer:
    """Choose the answer that counts: while one relay may still take the mail it is not final."""
    return max(asked, key=lambda each: each.worth)


def another_may_take(result: Replies | Unsendable | NotAttempted) -> bool:
    """Return whether another relay may take the mail.

    Another relay may have an extension that this one lacks, and take a sender that this one refuses
    (RFC 6531 3.2).
    """
    match result:
        case NotAttempted():
            return True
        case Unsendable(reason):
            return reason in _LACKS
    return any(map(_is_before_rcpt, result.values()))


def _is_before_rcpt(reply: Reply) -> bool:
    return reply.stage in replies.BEFORE_MAIL or reply.stage is Stage.MAIL


class WeightedRoundRobin:
    """Stride scheduling: each turn puts who had it back by one over the weight.

    Who was away for a while does not make up for it with a burst.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._strides = {name: 1 / weight for name, weight in weights.items()}
        self._due = dict.fromkeys(weights, 0.0)
        self._now = 0.0

    def next(self, able: Collection[str]) -> str:
        """Choose among those that are able, at least one."""
        self._now, chosen = min((max(self._due[name], self._now), name) for name in able)
        self._due[chosen] = self._now + self._strides[chosen]
        return chosen


class SmtpPool:
    """Sends mails, each over one of its relays.

    The `name` is that of the sending class, for the metrics; `now` is the clock that mails expire
    by. Each relay has at most `limits.connections` connections, and fewer if it serves fewer at
    a time.
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
        self._routes = {
            relay.name: RelayPool(relay, limits, RelayMetrics(name, relay.name), throttle, now)
            for relay in relays
        }
        self._turns = WeightedRoundRobin({relay.name: relay.weight for relay in relays})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take leave of the servers on all connections."""
        await asyncio.gather(*(route.close() for route in self._routes.values()))

    async def send(self, mail: OutgoingMail) -> Replies | Unsendable | NotAttempted:
        """Run one transaction and return the reply that settled each recipient.

        A relay that does not serve us, or does not take the mail at MAIL, passes it on to the next
        one. A refusal is final when all relays have refused. When all of them rest, or a rate is
        used up, nothing is tried. Raises Retry when the rates cannot be looked up.
        """
        waits = {name: route.wait for name, route in self._routes.items()}
        able = {name for name, wait in waits.items() if not wait}
        if not able:
            metrics.POSTPONED.labels(self._name).inc()
            return NotAttempted(min(waits.values()))
        if seconds := await self._too_early(mail):
            metrics.THROTTLED.labels(self._name).inc()
            return NotAttempted(seconds)
        return await self._asked_in_turn(mail, able)

    async def _asked_in_turn(
        self, mail: OutgoingMail, able: set[str]
    ) -> Replies | Unsendable | NotAttempted:
        deadline = asyncio.get_running_loop().time() + BEFORE_DOT_SECONDS
        asked: list[RelayAnswer] = []
        while able:
            name = self._next(able, mail)
            able.remove(name)
            result = await self._routes[name].send(mail, deadline)
            if not another_may_take(result):
                return result
            asked.append(RelayAnswer(name, result, mail.progress.suspected))
            able = {each for each in able if not self._routes[each].wait}
        return self._counts(mail, asked)

    def _counts(
        self, mail: OutgoingMail, asked: list[RelayAnswer]
    ) -> Replies | Unsendable | NotAttempted:
        """Return the answer that counts; a relay that rests may still take the mail."""
        chosen = best(reversed(asked))
        if not isinstance(chosen.result, NotAttempted):
            mail.progress.relay, mail.progress.suspected = chosen.relay, chosen.suspected
        resting = self._routes.keys() - {each.relay for each in asked}
        if chosen.final and resting:
            metrics.POSTPONED.labels(self._name).inc()
            return NotAttempted(min(self._routes[each].wait for each in resting))
        return chosen.result

    def _next(self, able: set[str], mail: OutgoingMail) -> str:
        """Choose among relays that are able: first those that have not refused the sender."""
        if len(able) == 1:
            return self._turns.next(able)
        willing = {each for each in able if not self._routes[each].declines(mail)} or able
        return self._turns.next({each for each in willing if self._routes[each].free} or willing)

    async def _too_early(self, mail: OutgoingMail) -> float:
        """Take the mail from the rates of its domains; 0.0, or how many seconds it is too early."""
        if not self._throttle.limits:
            return 0.0
        return await self._throttle.wait(
            Counter(domain_rate(domain_of(each)) for each in mail.recipients)
        )
