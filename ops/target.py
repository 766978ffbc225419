"""Which broker a command is for: the one named, the environment's, or the running stack's."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from ops.broker import BrokerError


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--amqp-url`."""
    parser.add_argument(
        "--amqp-url",
        metavar="URL",
        help="an administrator's AMQP URL (default: AMQP_URL, else that of the running stack)",
    )


def find(given: str | None, environ: Mapping[str, str]) -> str:
    """Give the AMQP URL to use. Raises BrokerError when there is none."""
    url = given or environ.get("AMQP_URL")
    if url:
        return url
    stack = Path(environ.get("RUN_DIR") or ".run") / "stack.json"
    try:
        return str(json.loads(stack.read_text())["amqp_url"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BrokerError("no broker: give --amqp-url, set AMQP_URL, or run 'make up'") from None
