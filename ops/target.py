"""Which broker a command is for: the one named, the environment's, or the running stack's."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ops.broker import BrokerError
from shared.config.url import check_broker
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

    Raises BrokerError when there is none, ConfigError that names what tells one that is none.
    """
    if given:
        return _checked(given, "--amqp-url")
    if url := environ.get("AMQP_URL"):
        return _checked(url, "AMQP_URL")
    if url := stack(environ).get("amqp_url"):
        return _checked(url, f"{_path(environ)}: amqp_url")
    raise BrokerError("no broker: give --amqp-url, set AMQP_URL, or run 'make up'")


def stack(environ: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the record of the running stack, empty when none runs."""
    try:
        return dict(json.loads(_path(environ).read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _path(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("RUN_DIR") or ".run") / "stack.json"


def _checked(url: str, where: str) -> str:
    try:
        return check_broker(url)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
