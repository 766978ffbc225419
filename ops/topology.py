"""`ops topology`: make the exchanges and queues of a vhost, and a user of its own for each service.

Services may not declare anything, so this runs before them; again and again does no harm.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from urllib.parse import quote, unquote, urlsplit

from ops import target
from ops.broker import BrokerError
from ops.management import Management, ManagementError
from ops.quiet import quiet
from shared import broker, topology
from shared.broker import Broker
from shared.errors import Unavailable
from shared.outage import Outage, described
from shared.topology import RUNNING, Owner, User

_PATIENCE = 60.0  # seconds for a broker that is still starting
_LONGEST_PATIENCE = 86_400.0  # seconds
_POLL = 1.0  # seconds between two looks at it
_NOTHING = "^$"  # no name and no key at all


async def declare(amqp_url: str, owners: Sequence[Owner] = RUNNING, scale: float = 1.0) -> None:
    """Make all exchanges, and the queues of `owners`; `scale` shortens the ladder in tests.

    Raises Unavailable, also when one is there with other arguments: those can never be changed.
    """
    await broker.declare(amqp_url, topology.EXCHANGES, topology.queues(owners, scale))


async def grant(
    management_url: str, user: str, password: str, vhost: str, passwords: Mapping[str, str]
) -> None:
    """Give each service in `passwords` a user of its name and the least rights in a vhost.

    `user` is an administrator of the broker. Raises ValueError for a name that is no service's,
    OSError when the management API cannot be reached, ManagementError when it refuses.
    """
    unknown = passwords.keys() - {each.name for each in topology.USERS}
    if unknown:
        raise ValueError(f"no service is called {', '.join(sorted(unknown))}")
    management = Management(management_url, user, password)
    for each in topology.USERS:
        if each.name in passwords:
            await asyncio.to_thread(_put, management, vhost, each, passwords[each.name])


def _put(management: Management, vhost: str, user: User, password: str) -> None:
    where = f"{quote(vhost, safe='')}/{user.name}"
    management.request("PUT", f"/users/{user.name}", {"password": password, "tags": ""})
    # Keys before exchanges: where there is no pattern for keys, every key may be written.
    for exchange, keys in user.topics.items():
        rights = {"exchange": exchange, "write": keys, "read": _NOTHING}
        management.request("PUT", f"/topic-permissions/{where}", rights)
    rights = {"configure": _NOTHING, "write": user.write, "read": user.read}
    management.request("PUT", f"/permissions/{where}", rights)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    declaring = actions.add_parser("declare", help="make exchanges, queues and bindings")
    granting = actions.add_parser(
        "grant",
        help="make a user with the least rights for each service",
        description="Passwords are taken from "
        + ", ".join(map(_password_variable, RUNNING))
        + "; the administrator and the vhost from the AMQP URL.",
    )
    granting.add_argument(
        "--management-url",
        metavar="URL",
        help="RabbitMQ's management API (default: RABBITMQ_MANAGEMENT_URL, else that of the"
        " running stack)",
    )
    for action in (declaring, granting):
        target.add_argument(action)
        action.add_argument(
            "--wait",
            type=_seconds,
            default=_PATIENCE,
            metavar="SECONDS",
            help=f"for a broker that is still starting ({_PATIENCE:g})",
        )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LONGEST_PATIENCE:  # which is not so of "nan" either
        raise argparse.ArgumentTypeError(f"must be seconds from 0 to {_LONGEST_PATIENCE:g}")
    return seconds


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked and return the exit code; what is wrong is told in one line."""
    action = _declare if arguments.action == "declare" else _grant
    try:
        url = target.find(arguments.amqp_url, os.environ)
        with quiet():
            asyncio.run(action(url, arguments))
    except (BrokerError, ManagementError, HTTPException, Unavailable, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _declare(url: str, arguments: argparse.Namespace) -> None:
    async with Broker.connect(url, "ops topology", patience=arguments.wait):
        await declare(url)
    print("topology declared")


async def _grant(url: str, arguments: argparse.Namespace) -> None:
    management_url = target.find_management(arguments.management_url, os.environ)
    passwords = _passwords(os.environ)
    where = urlsplit(url)
    user, password = unquote(where.username or "guest"), unquote(where.password or "guest")
    vhost = unquote(where.path.removeprefix("/")) or "/"
    await _answering(Management(management_url, user, password), arguments.wait)
    await grant(management_url, user, password, vhost, passwords)
    print(f"rights granted to {', '.join(passwords)}")


def _passwords(environ: Mapping[str, str]) -> Mapping[str, str]:
    variables = {owner: _password_variable(owner) for owner in RUNNING}
    missing = [name for name in variables.values() if not environ.get(name)]
    if missing:
        raise BrokerError(f"no password: set {', '.join(missing)}")
    return {owner: environ[name] for owner, name in variables.items()}


def _password_variable(owner: Owner) -> str:
    return f"{owner.upper()}_AMQP_PASSWORD"


async def _answering(management: Management, patience: float) -> None:
    """Wait until the management API answers; it may come up later than AMQP."""
    outage = Outage("the management API", management.url, "RABBITMQ_MANAGEMENT_URL")
    give_up = time.monotonic() + patience
    while True:
        try:
            await asyncio.to_thread(management.request, "GET", "/whoami")
        except (OSError, HTTPException) as error:
            if time.monotonic() >= give_up:
                told = f"{management.url} does not answer: {described(error)}"
                raise BrokerError(f"{told}; {outage.advice(error)}") from error
            outage.log(error)
            await asyncio.sleep(_POLL)
        else:
            return
