"""The stack that is put under load: the one that runs here, or another that is named."""

import argparse
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from yarl import URL

from ops.load.errors import LoadError

_FLAGS = {
    "gateway_url": "its API (default: the running stack's)",
    "mailbox_url": "the simulator's page (default: the running stack's)",
}
# Where a command line could be read by others; the names are those of stack.json.
_SECRETS = {"client_key": "CLIENT_KEY", "amqp_url": "AMQP_URL"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where things are; empty is what nobody told."""

    gateway_url: str = ""
    mailbox_url: str = ""
    client_key: str = field(default="", repr=False)
    amqp_url: str = field(default="", repr=False)

    def url(self, name: str) -> URL:
        """Give one of the addresses. Raises LoadError when it is not known."""
        return URL(self.said(name))

    def said(self, name: str) -> str:
        """Give one of the fields. Raises LoadError when it is not known."""
        text: str = getattr(self, name)
        if not text:
            how = _SECRETS.get(name) or f"--{name.replace('_', '-')}"
            raise LoadError(f"{how} is needed, or a stack that runs: make up")
        return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what names another stack."""
    for name, text in _FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="URL", help=text)
    parser.add_argument(
        "--remote", action="store_true", help="also a host that is not this machine"
    )


def find(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Target:
    """Take what is named by flag or variable, else the running stack's.

    Raises LoadError for another machine, unless that is asked for: a load that goes where nobody
    expects it is an attack.
    """
    given = {name: getattr(arguments, name) for name in _FLAGS}
    given |= {name: environ.get(variable) for name, variable in _SECRETS.items()}
    found = _stack(environ) | {name: text for name, text in given.items() if text}
    target = Target(**{each.name: found.get(each.name) or "" for each in fields(Target)})
    if not arguments.remote:
        for name in ("gateway_url", "mailbox_url", "amqp_url"):
            _check_local(name, getattr(target, name))
    return target


def _stack(environ: Mapping[str, str]) -> dict[str, Any]:
    path = Path(environ.get("RUN_DIR") or ".run") / "stack.json"
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


def _check_local(name: str, text: str) -> None:
    host = URL(text).host
    if host and not _is_local(host):
        raise LoadError(f"{name}: {host} is not this machine; --remote if it is to be")


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
