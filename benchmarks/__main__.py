"""`python -m benchmarks`: what the sender and the gateway do beside what bounds them."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

from benchmarks import accept, bench, compose, drain, hotspots, machine, mail, report, sink
from benchmarks.errors import BenchError
from ops.broker import BrokerError
from shared import log
from shared.errors import Unavailable

_COMPOSE_SECONDS = 0.5  # a time


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and give the exit code."""
    chosen = _parser().parse_args(arguments)
    # As Ctrl-C: what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    log.configure("bench", "ERROR")
    try:
        _measure(chosen)
    except (BenchError, BrokerError, Unavailable) as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _measure(chosen: argparse.Namespace) -> None:
    if chosen.what == "compose":
        _say(machine.describe())
        _compose(chosen)
        return
    program = sink.find() if chosen.what != "accept" else None
    with bench.opened() as place:
        _say(machine.describe(place.address.management))
        if chosen.what is None:
            _compose(chosen)
        if program is not None:
            asyncio.run(_drain(place, program, chosen))
        if chosen.what != "drain":
            asyncio.run(_accept(place, chosen))


def _compose(chosen: argparse.Namespace) -> None:
    for about, change in compose.TEXTS.items():
        command = compose.a_command(change)
        _say(
            f"\na mail of text and HTML {about}, {len(compose.composed(command)):,} bytes,"
            f" composed on one core, {chosen.repetitions} times in turns"
        )
        series = compose.measure(command, _COMPOSE_SECONDS, chosen.repetitions)
        _say(report.table("mails/s", series))


async def _drain(place: bench.Bench, program: sink.Program, chosen: argparse.Namespace) -> None:
    plan = drain.Plan(chosen.count, chosen.connections, chosen.repetitions)
    _say(
        f"\n{plan.count:,} mails of {len(mail.ready_made()):,} bytes waiting in RabbitMQ,"
        f" {plan.connections} SMTP connections to {program.name},"
        f" {plan.repetitions} times in turns"
    )
    async with sink.serving(place, program) as served:
        series, spent = await drain.measure(place, served, plan)
        _say(report.table("mails/s", series))
        _say(report.split([each.handling for each in spent], [each.smtp for each in spent]))
        if chosen.profile:
            into = place.directory / "sender.profile"
            await drain.drained(place, served, plan, hotspots.profiled(drain.SERVICE, into))
            _say("\nfor each mail, its share of the start included:")
            _say(hotspots.table(into, plan.count))


async def _accept(place: bench.Bench, chosen: argparse.Namespace) -> None:
    plan = accept.Plan(chosen.count, chosen.callers, chosen.repetitions)
    _say(
        f"\n{plan.count:,} requests over {plan.connections} HTTP connections,"
        f" {plan.repetitions} times in turns"
    )
    _say(report.table("requests/s", await accept.measure(place, plan)))
    if chosen.profile:
        into = place.directory / "gateway.profile"
        once = replace(plan, repetitions=1)
        await accept.measure(place, once, hotspots.profiled(accept.SERVICE, into))
        _say("\nfor each message and a ping, their share of the start included:")
        _say(hotspots.table(into, plan.count))


def _say(text: str) -> None:
    print(text, flush=True)  # it takes a minute: who pipes it wants to see it go on


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "what", nargs="?", choices=["compose", "drain", "accept"], help="default: all"
    )
    add = parser.add_argument
    add("--count", type=_positive, default=5000, help="mails or requests a time (%(default)s)")
    add("--repetitions", type=_positive, default=3, help="(%(default)s)")
    add("--connections", type=_positive, default=4, help="to the SMTP server (%(default)s)")
    add("--callers", type=_positive, default=32, help="HTTP connections (%(default)s)")
    add("--profile", action="store_true", help="once more under cProfile; its dearest functions")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
