"""Whether the time of a refusal shows its reason: unknown, wrong, used, expired or exhausted.

Measured over HTTP as a guesser would: one guess at a time, of each kind in turn, so that a
disturbance of the machine meets all of them. Two sets of times are compared by the ranks of their
values (Mann and Whitney, 1947).
"""

import asyncio
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import shuffle

import orjson
from yarl import URL

from benchmarks import accept, codes
from benchmarks.accept import Gateway
from benchmarks.bench import Bench, BenchError
from benchmarks.report import aligned
from ops.load import http
from ops.load.http import HttpConnection
from ops.load.report import percentile
from services.otp.codes import CodeGenerator, CodePolicy, CodeScope
from services.otp.handlers import CodeHandlers
from services.otp.issuing import Issued, IssueRequest
from services.otp.limits import CodeLimits
from services.otp.mail import translations
from services.otp.mail.mail import Branding, MailWriter
from services.otp.service import MIGRATIONS
from services.otp.store import ChallengeStore
from shared.contracts import VerifyCode
from shared.contracts.codes import CONFIRM_ADDRESS
from shared.runtime.sealing import Sealer
from shared.storage.database import Database

UNKNOWN, WRONG, USED, EXPIRED, EXHAUSTED = "unknown", "wrong", "used", "expired", "exhausted"
KINDS = (UNKNOWN, WRONG, USED, EXPIRED, EXHAUSTED)
_GUESSES_PER_CODE = 5
_REFUSED = b'"verified":false'
_MAX_PREPARING = 200  # addresses at once
_MICROSECONDS = 1_000_000
# Of a normal deviate: exceeded either way once in a thousand by chance.
CRITICAL_DEVIATE = 3.29

Times = Mapping[str, Sequence[float]]  # seconds by kind


@dataclass(frozen=True, slots=True)
class TypedCode:
    """A code typed for an address."""

    email: str
    code: str


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


class GuessPreparer:
    """Prepares addresses of each kind, in the database of a running otp service with `keys`."""

    def __init__(self, database: Database, keys: codes.OtpKeys) -> None:
        self._book = CodeGenerator.from_text(keys.otp_key)
        rules = CodePolicy(600_000, 60_000, _GUESSES_PER_CODE, 30, self._book.key_ids)
        self._store = ChallengeStore(database, rules)
        self._brief = ChallengeStore(database, replace(rules, lifetime=1))
        self._codes = CodeHandlers(
            self._store,
            self._book,
            Sealer.from_text(keys.sealing_key),
            MailWriter(translations.shipped(), Branding()),
            CodeLimits(0, 0, 0, 0, 0, 0),
        )

    async def prepare(self, kind: str) -> TypedCode:
        """Return a guess that will be refused for this reason."""
        email = f"{secrets.token_hex(8)}@bench.example"
        if kind == UNKNOWN:
            return TypedCode(email, "000000")
        store = self._brief if kind == EXPIRED else self._store
        right = TypedCode(email, await self._issued(store, email))
        wrong = TypedCode(email, f"{(int(right.code) + 1) % 1_000_000:06}")
        for _ in range(_GUESSES_PER_CODE if kind == EXHAUSTED else 0):
            await self._guess(wrong)
        if kind == USED:
            await self._guess(right)
        return wrong if kind == WRONG else right

    async def _guess(self, guess: TypedCode) -> None:
        question = VerifyCode(
            id=secrets.token_hex(8), email=guess.email, code=guess.code, client=accept.NAME
        )
        await self._codes.on_verify_code(question)

    async def _issued(self, store: ChallengeStore, email: str) -> str:
        new_challenge = self._book.new_challenge(CodeScope(accept.NAME, CONFIRM_ADDRESS, email))
        issued = await store.issue(IssueRequest(secrets.token_hex(8), new_challenge, ()))
        if not isinstance(issued, Issued):
            raise BenchError("a code was withheld")
        return self._book.code(issued.challenge)


async def measure(bench: Bench, tries: int) -> Times:
    """Time so many refusals in all. Raises BenchError when a guess is right."""
    keys, data = codes.OtpKeys.drawn(), bench.directory / "refusals"
    async with (
        bench.vhost() as amqp_url,
        accept.running(bench, amqp_url) as gateway,
        codes.running(bench, amqp_url, keys, data),
    ):
        async with Database.open("otp", None, data, MIGRATIONS) as database:
            preparer = GuessPreparer(database, keys)
            prepared = {
                kind: await _prepared(preparer, kind, tries // len(KINDS)) for kind in KINDS
            }
        return await _times(gateway, prepared)


async def _times(gateway: Gateway, prepared: Mapping[str, Sequence[TypedCode]]) -> Times:
    url = URL(f"http://127.0.0.1:{gateway.port}/v1/otp/verify")
    connection = await HttpConnection.connect(url)
    times: dict[str, list[float]] = {kind: [] for kind in prepared}
    for guesses in zip(*prepared.values(), strict=True):
        turn = list(zip(prepared, guesses, strict=True))
        shuffle(turn)  # each kind comes as often after each other
        for kind, guess in turn:
            body = orjson.dumps({"email": guess.email, "code": guess.code})
            request = http.encode_request("POST", url, gateway.headers, body)
            times[kind].append(await _time(connection, request))
    connection.close()
    return times


def table(times: Times) -> str:
    """Return a table of the times of each kind, compared with those of the others."""
    rows = [["", "p50 µs", "p99 µs", "slower than another", "deviate"]]
    for kind, ours in times.items():
        found = _compared(times, kind)
        spots = [f"{percentile(ours, share) * _MICROSECONDS:,.0f}" for share in (0.5, 0.99)]
        rows.append([kind, *spots, f"{found.share:.1%}", f"{found.deviate:+.2f}"])
    differing = [kind for kind in times if _compared(times, kind).differs]
    verdict = f"{', '.join(differing)} can be told" if differing else "no kind can be told"
    return f"{aligned(rows)}\n  {verdict} by its time (deviates of {CRITICAL_DEVIATE} and more)"


def _compared(times: Times, kind: str) -> RankComparison:
    others = [each for other, seconds in times.items() if other != kind for each in seconds]
    return compare(times[kind], others)


async def _prepared(preparer: GuessPreparer, kind: str, count: int) -> Sequence[TypedCode]:
    found: list[TypedCode] = []
    while len(found) < count:
        some = min(_MAX_PREPARING, count - len(found))
        found += await asyncio.gather(*(preparer.prepare(kind) for _ in range(some)))
    return found


async def _time(connection: HttpConnection, request: bytes) -> float:
    begun = time.perf_counter()
    answer = await connection.request(request)
    seconds = time.perf_counter() - begun
    if _REFUSED not in answer.body:
        raise BenchError(f"a guess was answered by {answer.status}, not refused")
    return seconds


def compare(ours: Sequence[float], others: Sequence[float]) -> RankComparison:
    """Compare some values with others; equal ones count half."""
    ranks = _ranks([*ours, *others])
    pairs = len(ours) * len(others)
    wins = sum(ranks[: len(ours)]) - len(ours) * (len(ours) + 1) / 2
    deviation = math.sqrt(pairs * (len(ours) + len(others) + 1) / 12)
    return RankComparison(wins / pairs, (wins - pairs / 2) / deviation)


def _ranks(values: Sequence[float]) -> Sequence[float]:
    """Return the rank of each value from 1; equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks, start = [0.0] * len(values), 0
    for end in range(1, len(order) + 1):
        if end == len(order) or values[order[end]] != values[order[start]]:
            for place in order[start:end]:
                ranks[place] = (start + 1 + end) / 2
            start = end
    return ranks
