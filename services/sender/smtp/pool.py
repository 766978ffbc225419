"""The SMTP connections of one sending class, over one relay or several."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Self

from services.sender import metrics
from services.sender.mail.compose import Mail
from services.sender.metrics import RouteMetrics
from services.sender.outcome import Replies, Unsendable
from services.sender.smtp.asked import Asked, best, says_nothing_of_others
from services.sender.smtp.circuit_breaker import Postponed
from services.sender.smtp.rate_limits import Throttle, domain_rate
from services.sender.smtp.relay import Limits, Relay
from services.sender.smtp.relay_pool import Route
from services.sender.smtp.round_robin import Turns
from shared.contracts.address import domain_of

# For all that comes before the final dot, so that even the slowest transaction, with ten minutes
# for the dot, ends before the broker takes the command back (30 minutes, RabbitMQ's default).
BEFORE_DOT_SECONDS = 780.0


class SmtpPool:
    """Sends mails, each over one of its relays.

    The `name` is that of the sending class, for the metrics; `now` is the clock that mails expire
    by. Each relay has at most `limits.connections` connections, and fewer if it serves fewer at
    a time.
    """

    def __init__(
        self,
        relays: Sequence[Relay],
        limits: Limits,
        name: str,
        throttle: Throttle,
        now: Callable[[], datetime],
    ) -> None:
        self._name = name
        self._throttle = throttle
        self._routes = {
            relay.name: Route(relay, limits, RouteMetrics(name, relay.name), throttle, now)
            for relay in relays
        }
        self._turns = Turns({relay.name: relay.weight for relay in relays})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take leave of the servers on all connections."""
        await asyncio.gather(*(route.close() for route in self._routes.values()))

    async def send(self, mail: Mail) -> Replies | Unsendable | Postponed:
        """Run one transaction and return the reply that settled each recipient.

        A relay that does not serve us, or does not take the mail at MAIL, passes it on to the next
        one. A refusal is final when all relays have refused. When all of them rest, or a rate is
        used up, nothing is tried. Raises Retry when the rates cannot be looked up.
        """
        waits = {name: route.wait for name, route in self._routes.items()}
        able = {name for name, wait in waits.items() if not wait}
        if not able:
            metrics.POSTPONED.labels(self._name).inc()
            return Postponed(min(waits.values()))
        if seconds := await self._too_early(mail):
            metrics.THROTTLED.labels(self._name).inc()
            return Postponed(seconds)
        return await self._asked_in_turn(mail, able)

    async def _asked_in_turn(self, mail: Mail, able: set[str]) -> Replies | Unsendable | Postponed:
        deadline = asyncio.get_running_loop().time() + BEFORE_DOT_SECONDS
        asked: list[Asked] = []
        while able:
            name = self._next(able, mail)
            able.remove(name)
            result = await self._routes[name].send(mail, deadline)
            if not says_nothing_of_others(result):
                return result
            asked.append(Asked(name, result, mail.progress.suspected))
            able = {each for each in able if not self._routes[each].wait}
        return self._counts(mail, asked)

    def _counts(self, mail: Mail, asked: list[Asked]) -> Replies | Unsendable | Postponed:
        """Return the answer that counts; a relay that rests may still take the mail."""
        chosen = best(reversed(asked))
        if not isinstance(chosen.result, Postponed):
            mail.progress.relay, mail.progress.suspected = chosen.relay, chosen.suspected
        resting = self._routes.keys() - {each.relay for each in asked}
        if chosen.final and resting:
            metrics.POSTPONED.labels(self._name).inc()
            return Postponed(min(self._routes[each].wait for each in resting))
        return chosen.result

    def _next(self, able: set[str], mail: Mail) -> str:
        """Choose among relays that are able: first those that have not refused the sender."""
        if len(able) == 1:
            return self._turns.next(able)
        willing = {each for each in able if not self._routes[each].declines(mail)} or able
        return self._turns.next({each for each in willing if self._routes[each].free} or willing)

    async def _too_early(self, mail: Mail) -> float:
        """Take the mail from the rates of its domains; 0.0, or how many seconds it is too early."""
        if not self._throttle.limits:
            return 0.0
        return await self._throttle.wait(
            Counter(domain_rate(domain_of(each)) for each in mail.recipients)
        )
