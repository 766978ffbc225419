"""A steady stream of codes and mails of one client, and how long each takes to be delivered."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import orjson

from ops.load.report import percentile
from tests.journeys.user import Answer, User
from tests.tap import Tap
from tests.waiting import until

PERIOD_SECONDS = 0.05  # between two requests, whatever became of those before
GREYLISTED = range(0, 40, 10)  # requests whose mail needs the delay queues, early in the stream
# After the last request; then a mail counts as lost. A second attempt takes the delay queue of
# 15 s, or by its jitter that of a minute.
LATEST_SECONDS = 90.0


@dataclass
class Stream:
    """Requests of one stream, by recipient, and the seconds until each was delivered."""

    asked: dict[str, float] = field(default_factory=dict)
    delivered: dict[str, float] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def lost(self) -> Sequence[str]:
        """The recipients whose mail was not delivered."""
        return sorted(self.asked.keys() - self.delivered.keys())

    def __str__(self) -> str:
        """Return the figures in milliseconds and seconds."""
        return f"p99 {self.p99_seconds * 1000:.0f} ms, with a retry {self.retried_seconds:.1f} s"

    async def complete(self) -> bool:
        """Whether every mail was delivered."""
        return not self.lost

    @property
    def p99_seconds(self) -> float:
        """The 99th percentile from request to delivery of what needs one attempt."""
        return percentile([took for to, took in self._took() if "greylist" not in to], 0.99)

    @property
    def retried_seconds(self) -> float:
        """The longest from request to delivery of what needs a second attempt."""
        return max(took for to, took in self._took() if "greylist" in to)

    def _took(self) -> Iterator[tuple[str, float]]:
        return ((to, self.delivered[to] - self.asked[to]) for to in self.delivered)


async def steady(user: User, tap: Tap, seconds: float) -> Stream:
    """Ask for codes and mails in turns for so many seconds, and wait until all are delivered.

    `tap` hears `email.delivered`. A mail that is not delivered in LATEST_SECONDS is left in `lost`.
    """
    stream, domain = Stream(), f"{secrets.token_hex(4)}.example"
    hearing = asyncio.create_task(_hear(tap, stream, domain))
    asking: set[asyncio.Task[None]] = set()
    try:
        for number in range(round(seconds / PERIOD_SECONDS)):
            asking.add(asyncio.create_task(_ask(user, stream, number, domain)))
            await asyncio.sleep(PERIOD_SECONDS)
        await asyncio.gather(*asking)
        with suppress(TimeoutError):
            await until(stream.complete, within=LATEST_SECONDS)
    finally:
        hearing.cancel()
    return stream


async def _ask(user: User, stream: Stream, number: int, domain: str) -> None:
    if number in GREYLISTED:
        to = f"greylist-1+{number}@{domain}"
        request: Awaitable[Answer] = user.send(to)
    elif number % 2:
        to = f"mail-{number}@{domain}"
        request = user.send(to)
    else:
        to = f"code-{number}@{domain}"
        # Each user has an address: the codes that one address may ask for are few (OTP_IP_HOURLY).
        place = f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::1"
        request = user.ask("POST", "/v1/otp", {"email": to, "ip": place})
    stream.asked[to] = time.perf_counter()
    answer = await request
    stream.statuses[answer.status] += 1


async def _hear(tap: Tap, stream: Stream, domain: str) -> None:
    """Note when each recipient's mail was delivered, until cancelled."""
    while True:
        message = await tap.next(within=2 * LATEST_SECONDS)
        recipient = orjson.loads(message.body)["recipient"]
        if recipient.endswith(domain):
            stream.delivered.setdefault(recipient, time.perf_counter())
