"""`python -m benchmarks`: measure the services beside alternatives and bounds."""

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from benchmarks import (
    accept,
    arrive,
    bench,
    codes,
    domains,
    drain,
    ledger,
    mail,
    reports,
    schedule,
    senders,
    sending,
    submit,
    webhooks,
)
from benchmarks.bench import DATABASES, Bench, BenchError, BenchPlan
from ops.broker import BrokerError
from shared.errors import Unavailable
from shared.runtime import log

Lines = Callable[[Bench, BenchPlan], AsyncIterator[str]]

MEASUREMENTS: Mapping[str, Sequence[Lines]] = {
    "cost": [sending.cost_lines],
    "knee": [sending.knee_lines],
    "drain": [drain.lines, senders.lines, drain.chunking_lines],
    "chunking": [drain.chunking_lines],
    "share": [drain.share_lines],
    "memory": [drain.memory_lines],
    "accept": [accept.lines],
    "codes": [codes.lines, arrive.lines],
    "arrive": [arrive.lines],
    "domains": [domains.lines],
    "ledger": [ledger.lines],
    "reads": [ledger.read_lines],
    "schedule": [schedule.lines, schedule.lateness_lines],
    "later": [schedule.lateness_lines],
    "webhooks": [webhooks.lines],
    "submit": [submit.lines],
    "reports": [reports.lines],
}
# `codes`, `schedule` and `drain` measure the last three as well.
ON_REQUEST = {"memory", "arrive", "later", "chunking"}
NUMBERS = {
    "count": "mails or requests a time",
    "repetitions": "of each measurement",
    "connections": "to the SMTP server",
    "callers": "HTTP connections to the gateway",
    "waiting": "mails that wait while memory, codes or a backlog are measured",
    "events": "of domains or mails, a time",
    "known": "mails that are read, or subscriptions among which the next is found",
    "due": "subscriptions that are due at once",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    chosen = vars(_parser().parse_args(arguments))
    what, profiled = chosen.pop("what"), chosen.pop("profile")
    # As Ctrl-C: what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    log.configure("bench", "ERROR")
    try:
        _measure(what, profiled, BenchPlan(**chosen))
    except (BenchError, BrokerError, Unavailable) as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _measure(what: str | None, profiled: str | None, plan: BenchPlan) -> None:
    if what == "compose":
        _say(bench.machine())
    if what in {None, "compose"}:
        for text in mail.lines(plan.repetitions):
            _say(text)
    if what == "compose":
        return
    names = [what] if what else [name for name in MEASUREMENTS if name not in ON_REQUEST]
    with bench.opened(profiled) as place:
        _say(bench.machine(place.address.management))
        asyncio.run(_say_all(place, plan, names))


async def _say_all(place: Bench, plan: BenchPlan, names: Sequence[str]) -> None:
    for name in names:
        for lines in MEASUREMENTS[name]:
            async for text in lines(place, plan):
                _say(text)


def _say(text: str) -> None:
    print(text, flush=True)  # it takes minutes: a pipe shows that it goes on


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    named = ["compose", *MEASUREMENTS]
    others = f"default: all but {' and '.join(sorted(ON_REQUEST))}"
    parser.add_argument("what", nargs="?", choices=named, help=others)
    for name, about in NUMBERS.items():
        default = getattr(BenchPlan, name)
        text = f"{about} (%(default)s)"
        parser.add_argument(f"--{name}", type=_positive, default=default, help=text)
    parser.add_argument(
        "--domains",
        type=_positive,
        nargs="+",
        default=BenchPlan.domains,
        help="that are known, a figure each (10000 1000000)",
    )
    parser.add_argument(
        "--databases",
        nargs="+",
        choices=DATABASES,
        default=DATABASES,
        help=f"of the classifier, the ledger and the scheduler ({' '.join(DATABASES)})",
    )
    parser.add_argument(
        "--profile",
        choices=["gateway", "sender", "otp", "classifier", "ledger", "scheduler", "webhooks"],
        help="run this service under cProfile, and print its slowest functions at its end",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
