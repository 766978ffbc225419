"""`ops load`: put a running stack under load, and check that all of it arrives once.

Ctrl-C ends a run and prints what was seen until then.
"""

import argparse
import asyncio
import ipaddress
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar

import uvloop
from yarl import URL

from ops.cli import number, print_error, quiet, running_stack
from ops.load.events import EventLoad, EventPlan, count_events
from ops.load.http import GatewayClient, LoadError
from ops.load.mails import MailLoad, MailPlan
from ops.load.report import ProgressBar
from ops.load.run import Connect, ExitCode, LoadLimits, LoadRun, Workload, over_amqp, over_http
from ops.simulator.mailbox import MAILS_KEPT
from shared.config.url import check_broker, check_http
from shared.contracts import Category
from shared.contracts.domains import MAX_SIGHTINGS
from shared.errors import ConfigError, Unavailable

MAX_EVENTS: Final = 10_000_000  # minutes of work for the classifier
MAX_DOMAINS: Final = 1_000_000
MAX_CONCURRENCY: Final = 1000  # connections over HTTP
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_RUN_BYTES: Final = 4  # of a run's name; no two runs must have the same domains
# By the names in stack.json. Secrets come from variables: other users can read a command line.
_SETTINGS: Final = {
    "gateway_url": "--gateway-url",
    "mailbox_url": "--mailbox-url",
    "client_key": "CLIENT_KEY",
    "amqp_url": "AMQP_URL",
}
_URL_CHECKS: Final[Mapping[str, Callable[[str], str]]] = {
    "gateway_url": check_http,
    "mailbox_url": check_http,
    "amqp_url": check_broker,
}

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two kinds of load."""
    kinds = parser.add_subparsers(dest="kind", required=True)
    events = kinds.add_parser("events", help="delivery events, to the domain table")
    _add_number(events, "--events", 100_000, MAX_EVENTS, "how many in all")
    _add_number(events, "--domains", 5000, MAX_DOMAINS, "how many domains they are of")
    _add_number(events, "--batch", 1, MAX_SIGHTINGS, "events in one request or message")
    _add_number(events, "--bounced", 1, 100, "percent of them are bounces", least=0)
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
        stack = "(default: the running stack's)"
        kind.add_argument("--gateway-url", metavar="URL", help=f"its API {stack}")
        kind.add_argument("--mailbox-url", metavar="URL", help=f"the simulator's page {stack}")
        kind.add_argument(
            "--remote", action="store_true", help="also a host that is not this machine"
        )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the load; return 1 where it cannot run, or where not all arrived once."""
    try:
        with quiet():
            target = find_target(arguments, os.environ)
            return uvloop.run(_KINDS[arguments.kind](arguments, target))
    except (LoadError, Unavailable) as error:
        return print_error(f"load: {error}")


@dataclass(frozen=True, slots=True)
class LoadTarget:
    """The addresses of the stack under load; empty where unknown."""

    gateway_url: str = ""
    mailbox_url: str = ""
    client_key: str = field(default="", repr=False)
    amqp_url: str = field(default="", repr=False)

    def url(self, name: str) -> URL:
        """Return one of the addresses. Raises LoadError when it is unknown."""
        return URL(self.text(name))

    def text(self, name: str) -> str:
        """Return one of the fields. Raises LoadError when it is unknown."""
        text: str = getattr(self, name)
        if not text:
            raise LoadError(f"{_SETTINGS[name]} is needed, or a stack that runs: make up")
        return text


def find_target(arguments: argparse.Namespace, environ: Mapping[str, str]) -> LoadTarget:
    """Return the addresses from flags and variables, else those of the running stack.

    Raises ConfigError with every wrong address. Raises LoadError for another machine without
    `--remote`: load on a host by mistake is an attack.
    """
    flags = vars(arguments)
    given = {name: flags.get(name) or environ.get(each) for name, each in _SETTINGS.items()}
    stack = running_stack(environ)
    target = LoadTarget(**{name: str(given[name] or stack.get(name) or "") for name in _SETTINGS})
    if mistakes := [*_mistakes(target, given)]:
        raise ConfigError("\n".join(mistakes))
    for name in _URL_CHECKS:
        host = URL(getattr(target, name)).host
        if host and not arguments.remote and not _is_local(host):
            raise LoadError(f"{name}: {host} is not this machine; --remote if it is to be")
    return target


def _mistakes(target: LoadTarget, given: Mapping[str, str | None]) -> Iterator[str]:
    for name, check in _URL_CHECKS.items():
        try:
            if text := getattr(target, name):
                check(text)
        except ValueError as error:
            yield f"{_SETTINGS[name] if given[name] else f'stack.json: {name}'}: {error}"


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _events(arguments: argparse.Namespace, target: LoadTarget) -> int:
    plan = EventPlan(
        run=secrets.token_hex(_RUN_BYTES),
        at=datetime.now(UTC),
        events=arguments.events,
        domains=arguments.domains,
        bounced=arguments.bounced,
        batch=arguments.batch,
    )
    gateway = GatewayClient.open(target.url("gateway_url"), target.text("client_key"))
    async with gateway as client:
        load = EventLoad(plan, client, await count_events(client))
        return await _run(load, arguments, target)


async def _mail(arguments: argparse.Namespace, target: LoadTarget) -> int:
    plan = MailPlan(
        secrets.token_hex(_RUN_BYTES),
        arguments.mails,
        tuple(map(Category, arguments.category or [Category.TRANSACTIONAL])),
    )
    async with GatewayClient.open(target.url("mailbox_url")) as client:
        return await _run(MailLoad(plan, client, time.time), arguments, target)


_KINDS: Final = {"events": _events, "mail": _mail}


async def _run(load: Workload[T], arguments: argparse.Namespace, target: LoadTarget) -> ExitCode:
    limits = LoadLimits(arguments.concurrency, arguments.seconds, arguments.patience)
    async with _connecting(load, arguments.via, target) as connect:
        run = LoadRun(load, connect, limits, ProgressBar(sys.stderr))
        with _interrupting(run.interrupt):
            return await run.run()


def _connecting(
    load: Workload[T], via: str, target: LoadTarget
) -> AbstractAsyncContextManager[Connect[T]]:
    if via == "amqp":
        return over_amqp(target.text("amqp_url"), load.message)
    return over_http(target.url("gateway_url"), target.text("client_key"), load.request)


@contextmanager
def _interrupting(interrupt: Callable[[], None]) -> Iterator[None]:
    """Call `interrupt` at the first signal; the second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def remove() -> None:
        for each in _SIGNALS:
            loop.remove_signal_handler(each)

    def end() -> None:
        remove()
        interrupt()

    for each in _SIGNALS:
        loop.add_signal_handler(each, end)
    try:
        yield
    finally:
        remove()


def _add_number(  # noqa: PLR0913, PLR0917 -- what argparse needs to know of a number
    parser: argparse.ArgumentParser, flag: str, default: int, most: int, text: str, least: int = 1
) -> None:
    within = number(least, most)
    parser.add_argument(flag, type=within, default=default, help=f"{text} (%(default)s)")
