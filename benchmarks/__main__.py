"""`python -m benchmarks`: measure the services beside alternatives and bounds."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks import (
    accept,
    arrive,
    bench,
    codes,
    contest,
    cost,
    distance,
    domains,
    drain,
    knee,
    ledger,
    mail,
    reads,
    refusals,
    report,
    share,
    sink,
)
from benchmarks.bench import Bench, BenchError
from benchmarks.report import Series
from benchmarks.sink import Sink
from ops.broker import BrokerError
from services.classifier.rule import Mode
from shared.errors import Unavailable
from shared.runtime import log

_COMPOSE_SECONDS = 0.5  # a repetition
_ROUND_TRIP_SECONDS = 0.020  # to the far relay and back
_WAITING_MAILS = 100_000  # commands
_VERIFYING_CALLERS = 64  # HTTP connections
_READING_CALLERS = 4  # HTTP connections
_MEASURED_REFUSALS = 10_000
_LEDGER_DOMAINS = 5000  # of the recipients
_MEASURED_MAILS = 200  # of another client, one after the other
_MEASURED_CODES = 500  # codes, one after the other


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
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
        _say(bench.machine())
        _compose(chosen)
        return
    with bench.opened() as place:
        _say(bench.machine(place.address.management))
        if chosen.what is None:
            _compose(chosen)
        for name, measure in _MEASUREMENTS.items():
            if chosen.what == name or (chosen.what is None and name not in _ON_REQUEST):
                asyncio.run(measure(place, chosen))


def _compose(chosen: argparse.Namespace) -> None:
    for about, change in mail.TEXTS.items():
        command = mail.command("bench", mail.recipient(0), change)
        _say(
            f"\na mail of text and HTML {about}, {len(mail.composed(command)):,} bytes,"
            f" composed on one core, {chosen.repetitions} times in turns"
        )
        series = mail.measure(command, _COMPOSE_SECONDS, chosen.repetitions)
        _say(report.table("mails/s", series))


async def _cost(place: Bench, chosen: argparse.Namespace) -> None:
    program = sink.best()
    _say(
        f"\n{chosen.count:,} mails by the sender without RabbitMQ to {program.name},"
        f" {chosen.connections} SMTP connections, {chosen.repetitions} times"
    )
    async with sink.serving(place, program) as served:
        for _ in range(chosen.repetitions):
            spent = await cost.measured(place, served, chosen.count, chosen.connections)
            _say(spent.described(chosen.count))


async def _knee(place: Bench, _: argparse.Namespace) -> None:
    async with knee.playing(place) as (smtp, web):
        for play in knee.PLAYS:
            _say(f"\n{knee.about(play)}:")
            _say((await knee.measured(smtp, web, play, knee.Spans())).described)


async def _memory(place: Bench, chosen: argparse.Namespace) -> None:
    async with sink.serving(place, sink.best()) as served:
        await _backlog(place, served, chosen)


async def _drain(place: Bench, chosen: argparse.Namespace) -> None:
    rivals = await contest.rivals(place)
    for line in rivals.missing:
        _say(line)
    program = sink.best()
    async with (
        sink.serving(place, program) as near,
        distance.moved(place, near, _ROUND_TRIP_SECONDS / 2) as far,
    ):
        away = f"{_ROUND_TRIP_SECONDS * 1000:.0f} ms away"
        for where, served, count, wanted in (
            ("at no distance", near, chosen.count, contest.WANTED_NEAR),
            (away, far, chosen.far_count, contest.WANTED_FAR),
        ):
            plan = drain.DrainPlan(count, chosen.connections)
            _say(_title(f"{program.name} {where}", plan, chosen.repetitions))
            result = await contest.measure(place, served, plan, rivals.there, chosen.repetitions)
            missed = _print_result(result, wanted)
            if chosen.profile or missed:
                await _profile(place, served, plan)
        if chosen.waiting is not None:
            await _backlog(place, near, chosen)


def _title(where: str, plan: drain.DrainPlan, repetitions: int) -> str:
    size = len(mail.ready_made())
    return (
        f"\n{plan.count:,} mails of {size:,} bytes waiting, to {where}, {plan.connections} SMTP"
        f" connections, {repetitions} times in turns; {bench.load_average()}"
    )


def _print_result(result: contest.ContestResult, wanted: Mapping[str, float]) -> bool:
    """Print the measurements; return whether less was reached than is wanted."""
    spent, ours = [each.timings for each in result.drains], result.series[0]
    _say(report.table("mails/s", result.series))
    _say(report.split([each.handling for each in spent], [each.smtp for each in spent]))
    verdicts = [
        *(
            report.times(ours, series, wanted[series.name])
            for series in result.series
            if series.name in wanted
        ),
        report.most_memory([each.memory for each in result.drains], contest.MAX_MEMORY_BYTES),
    ]
    _say("\n".join(verdicts))
    return any(verdict.endswith(report.MISSED) for verdict in verdicts)


async def _profile(place: Bench, served: Sink, plan: drain.DrainPlan) -> None:
    into = place.directory / "sender.profile"
    await drain.drained(place, served, plan, bench.profiled(drain.SERVICE, into))
    _say(f"\nwhere the time of {plan.count:,} mails goes:")
    _say(bench.hotspots(into))


async def _backlog(place: Bench, served: Sink, chosen: argparse.Namespace) -> None:
    plan = drain.DrainPlan(chosen.count, chosen.connections)
    waiting = chosen.waiting or _WAITING_MAILS
    _say(f"\nthe sender's memory while it sends the first {plan.count:,} of {waiting:,}:")
    samples, peak = await drain.memory_samples(place, served, waiting, plan)
    _say(report.course(samples))
    _say(report.most_memory([peak], contest.MAX_MEMORY_BYTES))


async def _share(place: Bench, chosen: argparse.Namespace) -> None:
    plan = drain.DrainPlan(chosen.count, chosen.connections)
    program = sink.best()
    _say(_title(program.name, plan, chosen.repetitions))
    async with sink.serving(place, program) as served:
        series = await share.drains(place, served, plan, chosen.repetitions)
    _say(report.table("mails/s", series))
    for each in series[:-1]:
        _say(report.no_slower(each, series[-1], share.WANTED_SHARE))
    waiting = chosen.waiting or _WAITING_MAILS
    _say(f"\n{_MEASURED_MAILS:,} bulk mails, one after the other, from the publish to the server:")
    behind = await share.behind_backlog(place, share.BacklogPlan(_MEASURED_MAILS, waiting))
    _say(report.table("mails/s", [behind]))
    _say(f"  the first: {behind.latencies[0]:.3f} s")
    _say(report.soon(behind, share.WANTED_P99_SECONDS))


async def _accept(place: Bench, chosen: argparse.Namespace) -> None:
    plan = accept.HttpPlan(chosen.count, chosen.callers, chosen.repetitions)
    _say(
        f"\n{plan.count:,} requests over {plan.connections} HTTP connections,"
        f" {plan.repetitions} times in turns"
    )
    measured = await accept.measure(place, plan)
    _, keyed, batches, _ = measured
    _say(report.table("mails/s", measured))
    _say(report.fast(keyed, accept.WANTED_RATE, accept.WANTED_P99_SECONDS))
    _say(report.at_least(batches, accept.WANTED_BATCH_RATE))
    if chosen.profile:
        into = place.directory / "gateway.profile"
        once = replace(plan, repetitions=1)
        await accept.measure(place, once, bench.profiled(accept.SERVICE, into))
        _say(f"\nwhere the time of {plan.count:,} messages and pings goes:")
        _say(bench.hotspots(into))


async def _codes(place: Bench, chosen: argparse.Namespace) -> None:
    plan = accept.HttpPlan(chosen.count, _VERIFYING_CALLERS, chosen.repetitions)
    _say(
        f"\n{plan.count:,} codes verified over {plan.connections} HTTP connections,"
        f" {plan.repetitions} times; {bench.load_average()}"
    )
    verified = await codes.measure(place, plan)
    _say(report.table("verifications/s", verified))
    _say(report.fast(verified[0], codes.WANTED_RATE, codes.WANTED_P99_SECONDS))
    _say(f"\n{_MEASURED_REFUSALS:,} refusals, one after the other:")
    _say(refusals.table(await refusals.measure(place, _MEASURED_REFUSALS)))
    waiting = chosen.waiting or _WAITING_MAILS
    _say(f"\n{_MEASURED_CODES:,} codes, one after the other, from the request to the SMTP server:")
    idle, busy = await arrive.measure(place, arrive.ArrivalPlan(_MEASURED_CODES, waiting))
    _say(report.table("codes/s", [busy, idle]))
    _say(report.soon(idle, arrive.IDLE_P99_SECONDS))
    _say(report.soon(busy, arrive.BUSY_P99_SECONDS))


async def _domains(place: Bench, chosen: argparse.Namespace) -> None:
    plan = domains.DomainsPlan(
        chosen.domains,
        chosen.seconds,
        chosen.events,
        chosen.repetitions,
        chosen.mode,
        chosen.databases,
    )
    async for text in domains.measure(place, plan):
        _say(text)


async def _ledger(place: Bench, chosen: argparse.Namespace) -> None:
    plan = ledger.LedgerPlan(chosen.events // 2, _LEDGER_DOMAINS)
    _say(f"\n{chosen.events:,} commands and outcomes recorded; {bench.load_average()}")
    found = [await ledger.recorded(place, plan) for _ in range(chosen.repetitions)]
    events = Series("recorded out of RabbitMQ", [each.rate for each in found])
    _say(report.table("events/s", [events]))
    _say(report.at_least(events, ledger.WANTED_RATE))
    spent = min(each.processor for each in found)
    _say(f"  {spent * 1e6:.1f} µs of processor time an event")
    if chosen.profile:
        into = place.directory / "ledger.profile"
        await ledger.recorded(place, plan, bench.profiled(ledger.MODULE, into))
        _say(bench.hotspots(into))
    program = sink.best()
    mails = drain.DrainPlan(chosen.count, chosen.connections)
    async with sink.serving(place, program) as served:
        _say(_title(program.name, mails, chosen.repetitions))
        without, beside = [], []
        for _ in range(chosen.repetitions):
            without.append((await drain.drained(place, served, mails)).rate)
            beside.append((await drain.drained(place, served, mails, recorded=True)).rate)
    series = [Series("with the ledger", beside), Series("without", without)]
    _say(report.table("mails/s", series))
    _say(report.no_slower(series[0], series[1], ledger.MAX_SLOWER_SHARE))


async def _reads(place: Bench, chosen: argparse.Namespace) -> None:
    requests = accept.HttpPlan(chosen.reads, _READING_CALLERS, chosen.repetitions)
    plan = reads.ReadPlan(chosen.known, requests)
    async for name, found in reads.measure(place, plan, chosen.databases):
        _say(
            f"\n{requests.count:,} requests of each kind over {requests.connections} HTTP"
            f" connections, {requests.repetitions} times, {plan.mails:,} mails known in {name};"
            f" {bench.load_average()}"
        )
        _say(report.table("requests/s", found))
        _say("\n".join(report.soon(each, reads.WANTED_P99_SECONDS) for each in found))


_MEASUREMENTS = {
    "cost": _cost,
    "knee": _knee,
    "drain": _drain,
    "share": _share,
    "memory": _memory,
    "accept": _accept,
    "codes": _codes,
    "domains": _domains,
    "ledger": _ledger,
    "reads": _reads,
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
        help=f"mails that wait while memory or codes are measured ({_WAITING_MAILS})",
    )
    add("--known", type=_positive, default=1_000_000, help="mails that are read (%(default)s)")
    add("--reads", type=_positive, default=1000, help="requests of a kind (%(default)s)")
    add("--callers", type=_positive, default=32, help="HTTP connections (%(default)s)")
    add(
        "--domains",
        type=_positive,
        nargs="+",
        default=[10_000, 1_000_000],
        help="that are known, a figure each (10000 1000000)",
    )
    add(
        "--events", type=_positive, default=60_000, help="of domains or mails, a time (%(default)s)"
    )
    add("--mode", type=Mode, choices=list(Mode), default=Mode.COUNTS, help="of the classifier")
    add(
        "--databases",
        nargs="+",
        choices=domains.DATABASES,
        default=domains.DATABASES,
        help=f"that the classifier is measured with ({' '.join(domains.DATABASES)})",
    )
    add("--seconds", type=float, default=3.0, help="a way to count is measured (%(default)s)")
    add(
        "--profile",
        action="store_true",
        help="run again under cProfile and print the slowest functions",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
