"""The stack that is put under load: the one that runs here, or another that is named."""

import argparse
import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields

from yarl import URL

from ops.load.errors import LoadError
from ops.target import stack
from shared.config.url import check_broker, check_http
from shared.errors import ConfigError

_FLAGS = {
    "gateway_url": "its API (default: the running stack's)",
    "mailbox_url": "the simulator's page (default: the running stack's)",
}
# Where a command line could be read by others; the names are those of stack.json.
_SECRETS = {"client_key": "CLIENT_KEY", "amqp_url": "AMQP_URL"}

_CHECKS: Mapping[str, Callable[[str], str]] = {
    "gateway_url": check_http,
    "mailbox_url": check_http,
    "amqp_url": check_broker,
}


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
            raise LoadError(f"{_named(name)} is needed, or a stack that runs: make up")
        return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what names another stack."""
    for name, text in _FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="URL", help=text)
    parser.add_argument(
        "--remote", action="store_true", help="also a host that is not this machine"
    )


def find(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Target:
    """Return the addresses from flags and variables, else those of the running stack.

    Raises ConfigError with every address that is wrong, and LoadError for another machine, unless
    that is asked for: a load that goes where nobody expects it is an attack.
    """
    given = {name: getattr(arguments, name) for name in _FLAGS}
    given |= {name: environ.get(variable) for name, variable in _SECRETS.items()}
    found = {**stack(environ), **{name: text for name, text in given.items() if text}}
    target = Target(**{each.name: str(found.get(each.name) or "") for each in fields(Target)})
    if mistakes := [*_mistakes(target, given)]:
        raise ConfigError("\n".join(mistakes))
    if not arguments.remote:
        for name in _CHECKS:
            _check_local(name, getattr(target, name))
    return target


def _mistakes(target: Target, given: Mapping[str, str | None]) -> Iterator[str]:
    for name, check in _CHECKS.items():
        try:
            if text := getattr(target, name):
                check(text)
        except ValueError as error:
            yield f"{_named(name) if given[name] else f'stack.json: {name}'}: {error}"


def _named(name: str) -> str:
    """Return the flag or the variable of a field."""
    return _SECRETS.get(name) or f"--{name.replace('_', '-')}"


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
