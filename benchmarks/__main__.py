"""`python -m benchmarks`: what the services do beside what bounds them."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

from benchmarks import (
    accept,
    arrive,
    backlog,
    bench,
    compose,
    contest,
    cost,
    distance,
    domains,
    drain,
    hotspots,
    knee,
    machine,
    mail,
    package,
    refusals,
    report,
    sink,
    verify,
)
from benchmarks.errors import BenchError
from benchmarks.package import Programs
from benchmarks.sink import Sink
from ops.broker import BrokerError
from services.classifier.rule import Mode
from shared.errors import Unavailable
from shared.runtime import log

_COMPOSE_SECONDS = 0.5  # a time
_AWAY_SECONDS = 0.020  # to the relay and back
_WAITING = 100_000  # commands
_VERIFIERS = 64  # HTTP connections
_REFUSALS = 10_000
_ARRIVALS = 500  # codes, one after the other


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
    programs = None if chosen.what in {"accept", "codes", "domains", "knee"} else package.fetched()
    with bench.opened() as place:
        _say(machine.describe(place.address.management))
        if chosen.what is None:
            _compose(chosen)
        for name, measure in _MEASUREMENTS.items():
            if chosen.what == name or (chosen.what is None and name not in _ON_REQUEST):
                asyncio.run(measure(place, programs, chosen))


def _compose(chosen: argparse.Namespace) -> None:
    for about, change in compose.TEXTS.items():
        command = compose.a_command(change)
        _say(
            f"\na mail of text and HTML {about}, {len(compose.composed(command)):,} bytes,"
            f" composed on one core, {chosen.repetitions} times in turns"
        )
        series = compose.measure(command, _COMPOSE_SECONDS, chosen.repetitions)
        _say(report.table("mails/s", series))


async def _cost(place: bench.Bench, programs: Programs | None, chosen: argparse.Namespace) -> None:
    program = sink.best(programs)
    _say(
        f"\n{chosen.count:,} mails by the sender without RabbitMQ to {program.name},"
        f" {chosen.connections} SMTP connections, {chosen.repetitions} times"
    )
    async with sink.serving(place, program) as served:
        for _ in range(chosen.repetitions):
            spent = await cost.measured(place, served, chosen.count, chosen.connections)
            _say(spent.told(chosen.count))


async def _knee(place: bench.Bench, _programs: Programs | None, _: argparse.Namespace) -> None:
    async with knee.playing(place) as (smtp, web):
        for play in knee.PLAYS:
            _say(f"\n{knee.about(play)}:")
            _say((await knee.measured(smtp, web, play, knee.Spans())).told)


async def _memory(
    place: bench.Bench, programs: Programs | None, chosen: argparse.Namespace
) -> None:
    async with sink.serving(place, sink.best(programs)) as served:
        await _backlog(place, served, chosen)


async def _drain(place: bench.Bench, programs: Programs | None, chosen: argparse.Namespace) -> None:
    rivals = await contest.rivals(place, programs)
    for line in rivals.missing:
        _say(line)
    program = sink.best(programs)
    async with (
        sink.serving(place, program) as near,
        distance.moved(place, near, _AWAY_SECONDS / 2) as far,
    ):
        for where, served, count in (
            ("at no distance", near, chosen.count),
            (f"{_AWAY_SECONDS * 1000:.0f} ms away", far, chosen.far_count),
        ):
            plan = drain.Plan(count, chosen.connections)
            _say(_title(f"{program.name} {where}", plan, chosen.repetitions))
            result = await contest.measure(place, served, plan, rivals.there, chosen.repetitions)
            missed = _tell(result)
            if chosen.profile or missed:
                await _profile(place, served, plan)
        if chosen.waiting is not None:
            await _backlog(place, near, chosen)


def _title(where: str, plan: drain.Plan, repetitions: int) -> str:
    size = len(mail.ready_made())
    return (
        f"\n{plan.count:,} mails of {size:,} bytes waiting, to {where},"
        f" {plan.connections} SMTP connections, {repetitions} times in turns; {machine.load()}"
    )


def _tell(result: contest.Result) -> bool:
    """Print what was measured; tell whether less was reached than is wanted."""
    spent, ours = [each.timings for each in result.drains], result.series[0]
    _say(report.table("mails/s", result.series))
    _say(report.split([each.handling for each in spent], [each.smtp for each in spent]))
    verdicts = [
        *(
            report.times(ours, series, contest.WANTED[series.name])
            for series in result.series
            if series.name in contest.WANTED
        ),
        report.most_memory([each.memory for each in result.drains], contest.MEMORY),
    ]
    _say("\n".join(verdicts))
    return any(verdict.endswith(report.MISSED) for verdict in verdicts)


async def _profile(place: bench.Bench, served: Sink, plan: drain.Plan) -> None:
    into = place.directory / "sender.profile"
    await drain.drained(place, served, plan, hotspots.profiled(drain.SERVICE, into))
    _say("\nwhere the time goes, for each mail:")
    _say(hotspots.table(into, plan.count))


async def _backlog(place: bench.Bench, served: Sink, chosen: argparse.Namespace) -> None:
    plan = drain.Plan(chosen.count, chosen.connections)
    waiting = chosen.waiting or _WAITING
    _say(f"\nthe sender's memory while it sends the first {plan.count:,} of {waiting:,}:")
    samples, peak = await backlog.sampled(place, served, waiting, plan)
    _say(report.course(samples))
    _say(report.most_memory([peak], contest.MEMORY))


async def _accept(
    place: bench.Bench, _programs: Programs | None, chosen: argparse.Namespace
) -> None:
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
        _say("\nfor each message and a ping:")
        _say(hotspots.table(into, plan.count))


async def _codes(
    place: bench.Bench, _programs: Programs | None, chosen: argparse.Namespace
) -> None:
    plan = accept.Plan(chosen.count, _VERIFIERS, chosen.repetitions)
    _say(
        f"\n{plan.count:,} codes verified over {plan.connections} HTTP connections,"
        f" {plan.repetitions} times; {machine.load()}"
    )
    verified = await verify.measure(place, plan)
    _say(report.table("verifications/s", verified))
    _say(report.fast(verified[0], verify.RATE, verify.P99_SECONDS))
    _say(f"\n{_REFUSALS:,} refusals, one after the other:")
    _say(refusals.table(await refusals.measure(place, _REFUSALS)))
    waiting = chosen.waiting or _WAITING
    _say(f"\n{_ARRIVALS:,} codes, one after the other, from the request to the SMTP server:")
    idle, busy = await arrive.measure(place, arrive.Plan(_ARRIVALS, waiting))
    _say(report.table("codes/s", [busy, idle]))
    _say(report.soon(idle, arrive.P99_SECONDS))
    _say(report.soon(busy, arrive.TIMES * report.slowest(idle)))


async def _domains(place: bench.Bench, _: Programs | None, chosen: argparse.Namespace) -> None:
    plan = domains.Plan(
        chosen.domains,
        chosen.seconds,
        chosen.events,
        chosen.repetitions,
        chosen.mode,
        chosen.databases,
    )
    async for text in domains.measure(place, plan):
        _say(text)


_MEASUREMENTS = {
    "cost": _cost,
    "knee": _knee,
    "drain": _drain,
    "memory": _memory,
    "accept": _accept,
    "codes": _codes,
    "domains": _domains,
}
_ON_REQUEST = {"memory"}


def _say(text: str) -> None:
    print(text, flush=True)  # it takes a minute: who pipes it wants to see it go on


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "what",
        nargs="?",
        choices=["compose", *_MEASUREMENTS],
        help="default: all but memory",
    )
    add = parser.add_argument
    add("--count", type=_positive, default=5000, help="mails or requests a time (%(default)s)")
    add("--repetitions", type=_positive, default=3, help="(%(default)s)")
    add("--far-count", type=_positive, default=1000, help="mails to the far relay (%(default)s)")
    add("--connections", type=_positive, default=16, help="to the SMTP server (%(default)s)")
    add(
        "--waiting",
        type=_positive,
        help=f"mails that wait while memory or codes are measured ({_WAITING})",
    )
    add("--callers", type=_positive, default=32, help="HTTP connections (%(default)s)")
    add(
        "--domains",
        type=_positive,
        nargs="+",
        default=[10_000, 1_000_000],
        help="that are known, a figure each (10000 1000000)",
    )
    add("--events", type=_positive, default=60_000, help="of domains, a time (%(default)s)")
    add("--mode", type=Mode, choices=list(Mode), default=Mode.COUNTS, help="of the classifier")
    add(
        "--databases",
        nargs="+",
        choices=domains.DATABASES,
        default=domains.DATABASES,
        help=f"that the classifier is measured with ({' '.join(domains.DATABASES)})",
    )
    add("--seconds", type=float, default=3.0, help="a way to count is measured (%(default)s)")
    add("--profile", action="store_true", help="once more under cProfile; its dearest functions")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
