"""How fast codes are verified, and whether the time of a refusal shows its reason.

The mails with the codes are read in the sender's place. Refusals are measured over HTTP as a
guesser would: one guess at a time, of each kind in turn, so that a disturbance of the machine
meets all of them. Two sets of times are compared by the ranks of their values (Mann and Whitney,
1947).
"""

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from random import shuffle

import orjson

from benchmarks import report
from benchmarks.accept import WARM_UP, HttpLoad, answers, series
from benchmarks.bench import Bench, BenchError, BenchPlan, load_average
from benchmarks.report import Series, aligned
from benchmarks.services import NAME, MeasuredGateway, MeasuredService, Vhost
from ops.load.http import HttpConnection
from ops.load.report import percentile
from shared.consumer import Subscription
from shared.contracts import Category, Contract, IssueCode, SendEmail, address
from shared.runtime.sealing import Sealer
from shared.topology import sending_queue

UNLIMITED = {
    f"OTP_{each}": "0"
    for each in (
        *("RECIPIENT_HOURLY", "RECIPIENT_DAILY", "CLIENT_HOURLY", "IP_HOURLY"),
        *("DOMAIN_HOURLY", "TOTAL_HOURLY"),
    )
} | {"OTP_CLIENT_FAILURES": "1000000000"}  # counted all the same: that is a part of the cost
CALLERS = 64  # HTTP connections
WANTED_RATE = 2300.0  # verifications a second
WANTED_P99_SECONDS = 0.050
PATH = "/v1/otp/verify"
VERIFIED, REFUSED = b'"verified":true', b'"verified":false'
UNKNOWN, WRONG, USED, EXPIRED, EXHAUSTED = "unknown", "wrong", "used", "expired", "exhausted"
KINDS = (UNKNOWN, WRONG, USED, EXPIRED, EXHAUSTED)
REFUSALS = 10_000
# Of a normal deviate: exceeded either way once in a thousand by chance.
CRITICAL_DEVIATE = 3.29
_LIFETIME_SECONDS = 1  # of a code that is to expire
_GUESSES_PER_CODE = 5
_PREFETCH = 500
_STALL_SECONDS = 30.0  # without a mail
_MICROSECONDS = 1_000_000

CodePairs = Sequence[tuple[str, str]]  # addresses and their codes
Times = Mapping[str, Sequence[float]]  # seconds by kind


def otp(
    vhost: Vhost, data: Path | None = None, **settings: str
) -> AbstractAsyncContextManager[MeasuredService]:
    """Run an otp service without limits."""
    return vhost.running("otp", data, **UNLIMITED, **settings)


@dataclass(frozen=True, slots=True)
class CodeReader:
    """Reads the mails with codes as the sender does; keeps the codes by recipient."""

    sealer: Sealer
    codes: dict[str, str] = field(default_factory=dict)
    come: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, mail: SendEmail) -> Sequence[Contract]:
        """Read a mail. Its second copy has the same code."""
        opened = orjson.loads(self.sealer.open(mail.sealed or "", context=mail.id))
        [code] = (line for line in opened["text"].splitlines() if line.isdecimal())
        self.codes[address.bare_address(mail.to[0])] = code
        self.come.set()
        return []

    async def filled(self, count: int) -> Mapping[str, str]:
        """Wait for so many codes. Raises BenchError when they stop to come."""
        while len(self.codes) < count:
            self.come.clear()
            try:
                async with asyncio.timeout(_STALL_SECONDS):
                    await self.come.wait()
            except TimeoutError:
                missing = count - len(self.codes)
                raise BenchError(f"{missing} codes were not mailed") from None
        return self.codes


async def issued(vhost: Vhost, count: int) -> CodePairs:
    """Issue codes for so many addresses. Raises BenchError."""
    emails = [f"{secrets.token_hex(8)}@bench.example" for _ in range(count)]
    reader = CodeReader(Sealer.from_text(vhost.bench.secrets["SEALING_KEY"]))
    mails = Subscription(sending_queue(Category.OTP), {SendEmail: reader.take}, _PREFETCH)
    async with vhost.broker.consuming(mails):
        await vhost.publish(
            IssueCode(id=secrets.token_hex(16), email=email, client=NAME) for email in emails
        )
        return list((await reader.filled(count)).items())


def guess(gateway: MeasuredGateway, email: str, code: str) -> bytes:
    """Return the request that verifies a code."""
    return gateway.request("POST", PATH, {"email": email, "code": code})


def guesses(gateway: MeasuredGateway, pairs: CodePairs, expected: bytes) -> HttpLoad:
    """Return the load of guesses that are answered so."""
    return HttpLoad(gateway.port, [guess(gateway, *each) for each in pairs], CALLERS, expected)


def wrong(pairs: CodePairs) -> CodePairs:
    """Return a wrong code for each address."""
    return [(email, f"{(int(code) + 1) % 10 ** len(code):0{len(code)}}") for email, code in pairs]


async def measure(bench: Bench, plan: BenchPlan) -> Sequence[Series]:
    """Guess wrong at each code, then right. Raises BenchError, also for a wrong answer."""
    counts = [WARM_UP * CALLERS, *[plan.count] * plan.repetitions]
    refused, verified = [], []
    async with Vhost.opened(bench) as vhost, vhost.gateway() as gateway, otp(vhost):
        known = iter(await issued(vhost, sum(counts)))
        for count in counts:
            some = list(islice(known, count))
            refused.append(await answers(bench, guesses(gateway, wrong(some), REFUSED)))
            verified.append(await answers(bench, guesses(gateway, some, VERIFIED)))
    return [series("right codes", verified[1:]), series("wrong codes", refused[1:])]


async def refusals(bench: Bench, tries: int) -> Times:
    """Time so many refusals in all. Raises BenchError when a guess is right."""
    data, count = bench.directory / "refusals", tries // len(KINDS)
    async with Vhost.opened(bench) as vhost, vhost.gateway() as gateway:
        async with otp(vhost, data, OTP_LIFETIME=str(_LIFETIME_SECONDS)):
            expired = await issued(vhost, count)
            await asyncio.sleep(_LIFETIME_SECONDS)
        async with otp(vhost, data):
            known = [await issued(vhost, count) for _ in range(3)]
            right, used, exhausted = known
            await answers(bench, guesses(gateway, used, VERIFIED))
            for _ in range(_GUESSES_PER_CODE):
                await answers(bench, guesses(gateway, wrong(exhausted), REFUSED))
            unknown = [(f"{secrets.token_hex(8)}@bench.example", "000000") for _ in range(count)]
            of_kinds = (unknown, wrong(right), used, expired, exhausted)
            return await _times(gateway, dict(zip(KINDS, of_kinds, strict=True)))


async def _times(gateway: MeasuredGateway, prepared: Mapping[str, CodePairs]) -> Times:
    connection = await HttpConnection.connect(gateway.url)
    times: dict[str, list[float]] = {kind: [] for kind in prepared}
    for pairs in zip(*prepared.values(), strict=True):
        turn = list(zip(prepared, pairs, strict=True))
        shuffle(turn)  # each kind comes as often after each other
        for kind, pair in turn:
            request = guess(gateway, *pair)
            begun = time.perf_counter()
            answer = await connection.request(request)
            times[kind].append(time.perf_counter() - begun)
            if REFUSED not in answer.body:
                raise BenchError(f"a guess was answered by {answer.status}, not refused")
    connection.close()
    return times


async def lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure, and yield the tables and their verdicts."""
    yield (
        f"\n{plan.count:,} codes verified over {CALLERS} HTTP connections,"
        f" {plan.repetitions} times; {load_average()}"
    )
    verified = await measure(bench, plan)
    yield report.table("verifications/s", verified)
    yield report.fast(verified[0], WANTED_RATE, WANTED_P99_SECONDS)
    yield f"\n{REFUSALS:,} refusals, one after the other:"
    yield table(await refusals(bench, REFUSALS))


def table(times: Times) -> str:
    """Return a table of the times of each kind, compared with those of the others."""
    rows = [["", "p50 µs", "p99 µs", "slower than another", "deviate"]]
    differing = []
    for kind, ours in times.items():
        others = [each for other, seconds in times.items() if other != kind for each in seconds]
        found = compare(ours, others)
        spots = [f"{percentile(ours, share) * _MICROSECONDS:,.0f}" for share in (0.5, 0.99)]
        rows.append([kind, *spots, f"{found.share:.1%}", f"{found.deviate:+.2f}"])
        differing += [kind] if found.differs else []
    verdict = f"{', '.join(differing)} can be told" if differing else "no kind can be told"
    return f"{aligned(rows)}\n  {verdict} by its time (deviates of {CRITICAL_DEVIATE} and more)"


@dataclass(frozen=True, slots=True)
class RankComparison:
    """The share of pairs in which the first sample's value is greater, and how likely by chance.

    `deviate` is normally distributed around 0, with the deviation 1, if there is no difference.
    """

    share: float
    deviate: float

    @property
    def differs(self) -> bool:
        """Whether chance is no explanation."""
        return abs(self.deviate) > CRITICAL_DEVIATE


def compare(ours: Sequence[float], others: Sequence[float]) -> RankComparison:
    """Compare some values with others; equal ones count half."""
    ranks = _ranks([*ours, *others])
    pairs = len(ours) * len(others)
    wins = sum(ranks[: len(ours)]) - len(ours) * (len(ours) + 1) / 2
    deviation = math.sqrt(pairs * (len(ours) + len(others) + 1) / 12)
    return RankComparison(wins / pairs, (wins - pairs / 2) / deviation)


def _ranks(values: Sequence[float]) -> Sequence[float]:
    """Return the rank of each value from 1; equal values share the mean of their ranks."""
    ranks, done = [0.0] * len(values), 0
    order = sorted(range(len(values)), key=values.__getitem__)
    for _, equal in groupby(order, key=values.__getitem__):
        places = list(equal)
        for place in places:
            ranks[place] = done + (len(places) + 1) / 2
        done += len(places)
    return ranks
