"""`ops load`: put a running stack under load, and see whether all of it came to be, once.

Ctrl-C ends a run, and tells what was seen until then.
"""

import argparse
import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import UTC, datetime
from typing import Final, TypeVar

import uvloop

from ops.load import lane, mails, sightings, target
from ops.load.crew import Lane
from ops.load.errors import LoadError
from ops.load.events import Events
from ops.load.lane import knocking
from ops.load.load import Load
from ops.load.mail import Mail
from ops.load.mailbox import Mailbox
from ops.load.progress import Progress
from ops.load.run import End, Limits, Run
from ops.load.table import Table
from ops.load.target import Target
from ops.quiet import quiet
from ops.simulator.mailbox import MAILS_KEPT
from shared.contracts import Category
from shared.contracts.domains import MAX_SIGHTINGS
from shared.errors import Unavailable

MAX_EVENTS: Final = 10_000_000  # some minutes of what the classifier can count
MAX_DOMAINS: Final = 1_000_000
MAX_CONCURRENCY: Final = 1000  # connections over HTTP
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_RUN_BYTES: Final = 4  # of a run's name, so that no two runs meet in a table

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two kinds of load."""
    kinds = parser.add_subparsers(dest="kind", required=True)
    events = kinds.add_parser("events", help="delivery events, to the domain table")
    _add_number(events, "--events", 100_000, MAX_EVENTS, "how many in all")
    _add_number(events, "--domains", 5000, MAX_DOMAINS, "how many domains they are of")
    _add_number(events, "--batch", 1, MAX_SIGHTINGS, "events in one request or message")
    _add_number(events, "--bounced", 1, 100, "percent of them tell of bounces", least=0)
    mail = kinds.add_parser("mail", help="mails, to the simulator's mailbox")
    _add_number(mail, "--mails", 1000, MAILS_KEPT, "how many; the mailbox keeps no more")
    mail.add_argument(
        "--category",
        choices=tuple(map(str, Category)),
        action="append",
        help="may be repeated, they take turns then (default: transactional)",
    )
    for kind in (events, mail):
        _add_number(kind, "--concurrency", 8, MAX_CONCURRENCY, "how many send at the same time")
        kind.add_argument("--via", choices=("http", "amqp"), default="http", help="(%(default)s)")
        _add_number(kind, "--seconds", 600, 86_400, "to send, and again to arrive")
        _add_number(kind, "--patience", 30, 3600, "seconds to wait for something new to arrive")
        target.add_arguments(kind)


def run(arguments: argparse.Namespace) -> int:
    """Run it; 1 and the reason where it cannot, or where not all arrived once."""
    try:
        with quiet():
            found = target.find(arguments, os.environ)
            return uvloop.run(_KINDS[arguments.kind](arguments, found))
    except (LoadError, Unavailable) as error:
        print(f"load: {error}", file=sys.stderr)
        return 1


async def _events(arguments: argparse.Namespace, found: Target) -> int:
    plan = sightings.Plan(
        run=secrets.token_hex(_RUN_BYTES),
        at=datetime.now(UTC),
        events=arguments.events,
        domains=arguments.domains,
        bounced=arguments.bounced,
        batch=arguments.batch,
    )
    async with knocking(found.url("gateway_url"), found.said("client_key")) as door:
        table = Table(door)
        return await _run(Events(plan, table, await table.events()), arguments, found)


async def _mail(arguments: argparse.Namespace, found: Target) -> int:
    plan = mails.Plan(
        secrets.token_hex(_RUN_BYTES),
        arguments.mails,
        tuple(map(Category, arguments.category or [Category.TRANSACTIONAL])),
    )
    async with knocking(found.url("mailbox_url")) as door:
        return await _run(Mail(plan, Mailbox(door), time.time), arguments, found)


async def _run(load: Load[T], arguments: argparse.Namespace, found: Target) -> End:
    limits = Limits(arguments.concurrency, arguments.seconds, arguments.patience)
    async with _lane(load, arguments.via, found) as way:
        run = Run(load, way, limits, Progress(sys.stderr))
        with _interrupting(run.interrupt):
            return await run.run()


def _lane(load: Load[T], via: str, found: Target) -> AbstractAsyncContextManager[Lane[T]]:
    if via == "amqp":
        return lane.amqp(found.said("amqp_url"), load.message)
    return lane.http(found.url("gateway_url"), found.said("client_key"), load.request)


@contextmanager
def _interrupting(interrupt: Callable[[], None]) -> Iterator[None]:
    """Have the first signal end the run in good order, and the next one at once."""
    loop = asyncio.get_running_loop()

    def end() -> None:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        interrupt()

    for number in _SIGNALS:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _add_number(  # noqa: PLR0913, PLR0917 -- what argparse is told of a number
    parser: argparse.ArgumentParser, flag: str, default: int, most: int, text: str, least: int = 1
) -> None:
    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a number from {least:,} to {most:,}")
        return int(text)

    parser.add_argument(flag, type=number, default=default, help=f"{text} (%(default)s)")


_KINDS: Final = {"events": _events, "mail": _mail}
