"""The common parts of the commands: numbers, the broker that they work on, and their output."""

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import structlog

from ops.broker import BrokerError, ManagementError
from shared.config.url import check_broker, check_management
from shared.errors import ConfigError

_MAX_SECONDS = 86_400.0  # a day


def number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return argparse's type of a number within these limits."""
    limits = f"from {least:,}" + (f" to {most:,}" if most is not None else "")

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"must be a number {limits}")
        return int(text)

    return parse


def seconds(text: str) -> float:
    """Parse seconds of up to a day, as a type of argparse."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= _MAX_SECONDS:  # which is false for "nan" too
        raise argparse.ArgumentTypeError(f"must be seconds from 0 to {_MAX_SECONDS:g}")
    return found


def print_error(line: object) -> int:
    """Print a line to standard error, and return the exit code 1."""
    print(line, file=sys.stderr)
    return 1


def run_on_broker(
    action: Callable[[str, argparse.Namespace], Coroutine[Any, Any, int]],
    arguments: argparse.Namespace,
    name: str = "",
) -> int:
    """Run an action with the URL of the broker, and return its exit code.

    Prints an error of the broker, or on the way to it, as a line that begins with `name`, and
    then returns 1.
    """
    try:
        url = find_amqp_url(arguments.amqp_url, os.environ)
        with quiet():
            return asyncio.run(action(url, arguments))
    except BrokenPipeError:
        raise  # nobody reads the output any more: see `ops.__main__`
    except (BrokerError, ManagementError, HTTPException, OSError) as error:
        return print_error(f"{name}{error}")


def add_amqp_url(parser: argparse.ArgumentParser) -> None:
    """Add `--amqp-url`."""
    parser.add_argument(
        "--amqp-url",
        metavar="URL",
        help="an administrator's AMQP URL (default: AMQP_URL, else that of the running stack)",
    )


def find_amqp_url(given: str | None, environ: Mapping[str, str]) -> str:
    """Return the AMQP URL to use.

    Raises BrokerError when there is none, and ConfigError, with the place, for a wrong one.
    """
    places = {"--amqp-url": given, "AMQP_URL": environ.get("AMQP_URL")}
    found = _first(places, "amqp_url", environ, check_broker)
    if not found:
        raise BrokerError("no broker: give --amqp-url, set AMQP_URL, or run 'make up'")
    return found


def find_management_url(given: str | None, environ: Mapping[str, str]) -> str:
    """Return the URL of the management API to use. Raises as `find_amqp_url` does."""
    variable = "RABBITMQ_MANAGEMENT_URL"
    places = {"--management-url": given, variable: environ.get(variable)}
    found = _first(places, "management_url", environ, check_management)
    if not found:
        raise BrokerError(f"no management API: give --management-url or {variable}")
    return found


def running_stack(environ: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the record of the running stack, empty when none runs."""
    try:
        return dict(json.loads(_path(environ).read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _path(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("RUN_DIR") or ".run") / "stack.json"


def _first(
    places: Mapping[str, str | None],
    name: str,
    environ: Mapping[str, str],
    check: Callable[[str], str],
) -> str | None:
    """Return the first address that is given, checked; that of the running stack is the last."""
    all_places = {**places, f"{_path(environ)}: {name}": running_stack(environ).get(name)}
    for place, url in all_places.items():
        if not url:
            continue
        try:
            return check(url)
        except ValueError as error:
            raise ConfigError(f"{place}: {error}") from None
    return None


@contextmanager
def quiet() -> Iterator[None]:
    """Log nothing in the block but the waiting for a server, a line each on standard error.

    A command raises or returns all else that a person must know.
    """
    before, disabled = structlog.get_config(), logging.root.manager.disable
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        processors=[_line],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(disabled)
        structlog.configure(**before)


def _line(_: object, __: str, event: structlog.typing.EventDict) -> str:
    if not str(event["event"]).startswith("waiting for "):
        raise structlog.DropEvent
    return "{event} at {address}: {reason}; {advice}".format_map(event)
