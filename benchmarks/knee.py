"""How near the sender comes to the best number of mails at a time, at a relay that serves a few.

The simulator plays the relay, in a process of its own. Beside the number that the sender finds by
itself some fixed ones are measured, with as many connections and nothing that adapts.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import aiohttp

from benchmarks import mail, report
from benchmarks.bench import Bench, BenchError
from ops import ports
from ops.simulator.behaviour import Behaviour
from services.sender.config import KEPT_SECONDS
from services.sender.mail.compose import OutgoingMail
from services.sender.outcome import NotAttempted, Replies, Unsendable
from services.sender.replies.reply import accepted
from services.sender.smtp.connect import connect
from services.sender.smtp.pool import SmtpPool
from services.sender.smtp.rate_limits import Throttle
from services.sender.smtp.relay import ConnectionLimits, Relay, Tls
from shared.storage.rate import Rate

MAX_OPEN = 64  # connections that the sender may open
WANTED_SHARE = 0.9  # of the best fixed number
_MAILS_PER_CONNECTION = 1000
_DEADLINE_SECONDS = 60.0

PLAYS = (
    Behaviour(service_ms=50, served_at_once=4),
    Behaviour(service_ms=100, served_at_once=16),
    Behaviour(service_ms=100, served_at_once=16, latency_ms=20),
)


@dataclass(frozen=True, slots=True)
class Spans:
    """Seconds of sending: with each fixed number, while the sender looks for its own, and then."""

    fixed: float = 2.0
    start: float = 2.0
    later: float = 5.0


@dataclass(frozen=True, slots=True)
class Found:
    """Mails a second: with each fixed number, and with the sender's own, at first and later."""

    fixed: Mapping[int, float]
    start: float
    later: float

    @property
    def described(self) -> str:
        """The rates, each beside the best of the fixed numbers, and whether that is enough."""
        best = max(self.fixed.values())
        rows = [(f"{number} at a time", rate) for number, rate in self.fixed.items()]
        rows += [("found, while looking", self.start), ("found", self.later)]
        cells = [[name, f"{rate:,.0f}", f"{rate / best:.2f}"] for name, rate in rows]
        verdict = report.REACHED if self.later >= WANTED_SHARE * best else report.MISSED
        table = report.aligned([["", "mails/s", "of the best"], *cells])
        return f"{table}\n  wanted are {WANTED_SHARE:g} of the best: {verdict}"


class Unlimited:
    """A rate store without any rate."""

    async def take(self, name: str, count: int, room: int, rate: Rate) -> float:
        """Return no wait."""
        del name, count, room, rate
        return 0.0


@asynccontextmanager
async def playing(bench: Bench) -> AsyncIterator[tuple[int, int]]:
    """Run a simulator; the value is the ports of its SMTP server and API. Raises BenchError."""
    smtp, web = ports.unused(2)
    flags = ["--smtp-port", str(smtp), "--mailbox-port", str(web)]
    command = [sys.executable, "-m", "ops.simulator", *flags]
    async with bench.running("simulator", command, {}) as process:
        await bench.listening("simulator", process, smtp)
        await bench.listening("simulator", process, web)
        yield smtp, web


def about(play: Behaviour) -> str:
    """Describe the relay."""
    return (
        f"a relay {play.latency_ms} ms away that serves {play.served_at_once} mails at a time,"
        f" each for {play.service_ms} ms"
    )


async def measured(smtp: int, web: int, play: Behaviour, spans: Spans) -> Found:
    """Measure one relay. Raises BenchError."""
    url = f"http://127.0.0.1:{web}/api/behaviour"
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.put(url, json=play.model_dump(), raise_for_status=True),
        ):
            pass
    except aiohttp.ClientError as error:
        raise BenchError(f"the simulator cannot be set up: {error}") from error
    relay = Relay("127.0.0.1", smtp, Tls.NONE)
    fixed = {number: await _fixed(relay, number, spans.fixed) for number in _numbers(play)}
    start, later = await _found(relay, [spans.start, spans.later])
    return Found(fixed, start, later)


def _numbers(play: Behaviour) -> Sequence[int]:
    """Return half of the number that the relay serves at a time, that number, and more."""
    knee = play.served_at_once or 1
    return [knee // 2, knee, knee * 3 // 2, knee * 2]


async def _fixed(relay: Relay, number: int, seconds: float) -> float:
    deadline = _now() + _DEADLINE_SECONDS
    free = [await connect(relay, deadline) for _ in range(number)]

    async def send(letter: OutgoingMail) -> None:
        connection = free.pop()  # there is one for each mail under way
        _see(await connection.transact(letter, deadline))
        free.append(connection)

    [rate] = await _rates(send, number, [seconds])
    await asyncio.gather(*(connection.quit() for connection in free))
    return rate


async def _found(relay: Relay, spans: Sequence[float]) -> Sequence[float]:
    limits = ConnectionLimits(MAX_OPEN, _MAILS_PER_CONNECTION, _DEADLINE_SECONDS, KEPT_SECONDS)
    throttle = Throttle(Unlimited(), {})
    async with SmtpPool([relay], limits, "bench", throttle, lambda: datetime.now(UTC)) as pool:

        async def send(letter: OutgoingMail) -> None:
            _see(await pool.send(letter))

        return await _rates(send, 2 * MAX_OPEN, spans)


async def _rates(
    send: Callable[[OutgoingMail], Awaitable[None]], hands: int, spans: Sequence[float]
) -> Sequence[float]:
    """Keep `hands` mails in flight; return the mails a second in each span of seconds."""
    sent, over = 0, False
    letter = OutgoingMail("post@bench.example", (mail.recipient(0),), mail.ready_made(), False)  # noqa: FBT003 -- ASCII

    async def hand() -> None:
        nonlocal sent
        while not over:
            await send(replace(letter))
            sent += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(hands):
            group.create_task(hand())
        rates = []
        for seconds in spans:
            before, begun = sent, _now()
            await asyncio.sleep(seconds)
            rates.append((sent - before) / (_now() - begun))
        over = True
    return rates


def _see(result: Replies | Unsendable | NotAttempted) -> None:
    if not isinstance(result, Mapping) or not all(map(accepted, result.values())):
        raise BenchError(f"a mail was not taken: {result}")


def _now() -> float:
    return asyncio.get_running_loop().time()
