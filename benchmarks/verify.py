"""How fast codes are verified through HTTP and RabbitMQ, the right ones and wrong ones.

Each request is about an address of its own. A right code is used up, which takes a second commit.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import orjson

from benchmarks import accept, codes
from benchmarks.accept import Gateway, Plan
from benchmarks.bench import Bench
from benchmarks.load import Task
from benchmarks.report import Series
from shared.broker import Broker

RATE = 2500.0  # a second: what is wanted
P99_SECONDS = 0.050
_VERIFIED, _REFUSED = '"verified":true', '"verified":false'
_WARM_UP = 10  # requests a connection that are not measured

Codes = Sequence[tuple[str, str]]  # addresses and their codes


async def measure(bench: Bench, plan: Plan) -> Sequence[Series]:
    """Measure right and wrong codes in turns. Raises BenchError, also for a wrong answer."""
    keys, warm_up = codes.Secrets.drawn(), _WARM_UP * plan.connections
    async with (
        bench.vhost() as amqp_url,
        Broker.connect(amqp_url, accept.NAME) as broker,
        accept.running(bench, amqp_url) as gateway,
        codes.running(bench, amqp_url, keys, bench.directory / "verify"),
    ):
        emails = [f"user{n}@bench.example" for n in range(warm_up + plan.count * plan.repetitions)]
        known = iter((await codes.issued(broker, keys, accept.NAME, emails)).items())
        await _both(bench, gateway, plan, list(islice(known, warm_up)))
        rounds = [
            await _both(bench, gateway, plan, list(islice(known, plan.count)))
            for _ in range(plan.repetitions)
        ]
    wrong, right = zip(*rounds, strict=True)
    return [accept.series("right codes", right), accept.series("wrong codes", wrong)]


async def _both(
    bench: Bench, gateway: Gateway, plan: Plan, known: Codes
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Guess wrong at each code, then right."""
    wrong = [(email, _other(code)) for email, code in known]
    return (
        await accept.loaded(bench, _task(gateway, plan, wrong, _REFUSED)),
        await accept.loaded(bench, _task(gateway, plan, known, _VERIFIED)),
    )


def _task(gateway: Gateway, plan: Plan, guesses: Codes, expected: str) -> Task:
    return Task(
        gateway.port,
        "POST",
        "/v1/otp/verify",
        len(guesses),
        plan.connections,
        headers=gateway.headers,
        bodies=[orjson.dumps({"email": email, "code": code}).decode() for email, code in guesses],
        expected=expected,
    )


def _other(code: str) -> str:
    """Give a code that is wrong."""
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}}"
