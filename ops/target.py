"""Which broker a command is for: the one named, the environment's, or the running stack's."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ops.broker import BrokerError
from shared.config.url import check_broker, check_http
from shared.errors import ConfigError


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--amqp-url`."""
    parser.add_argument(
        "--amqp-url",
        metavar="URL",
        help="an administrator's AMQP URL (default: AMQP_URL, else that of the running stack)",
    )


def find(given: str | None, environ: Mapping[str, str]) -> str:
    """Return the AMQP URL to use.

    Raises BrokerError when there is none, and ConfigError, with the place, for one that is wrong.
    """
    places = {"--amqp-url": given, "AMQP_URL": environ.get("AMQP_URL")}
    found = _first(places, "amqp_url", environ, check_broker)
    if not found:
        raise BrokerError("no broker: give --amqp-url, set AMQP_URL, or run 'make up'")
    return found


def find_management(given: str | None, environ: Mapping[str, str]) -> str:
    """Return the URL of the management API to use. Raises as `find` does."""
    places = {
        "--management-url": given,
        "RABBITMQ_MANAGEMENT_URL": environ.get("RABBITMQ_MANAGEMENT_URL"),
    }
    found = _first(places, "management_url", environ, check_http)
    if not found:
        raise BrokerError("no management API: give --management-url or RABBITMQ_MANAGEMENT_URL")
    return found


def stack(environ: Mapping[str, str]) -> Mapping[str, Any]:
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
    """Return the first address that is named, checked; that of the running stack comes last."""
    all_places = {**places, f"{_path(environ)}: {name}": stack(environ).get(name)}
    for place, url in all_places.items():
        if not url:
            continue
        try:
            return check(url)
        except ValueError as error:
            raise ConfigError(f"{place}: {error}") from None
    return None
