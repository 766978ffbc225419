"""`ops topology`: declare the exchanges and queues of a vhost, and users of the broker.

Services and programs may not declare anything, so this runs before them. It can run again.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http.client import HTTPException
from urllib.parse import unquote, urlsplit

from yarl import URL

from ops import cli, program
from ops.broker import BrokerError, Management
from shared import rabbitmq, rights, topology
from shared.broker import Broker
from shared.config.url import masked
from shared.runtime.outage import Outage, is_refused_by_tls
from shared.topology import Owner, Queue, shard_of

_START_SECONDS = 60.0  # for a broker that is still starting
_POLL_SECONDS = 1.0


async def declare(
    amqp_url: str,
    owners: Sequence[Owner] = tuple(Owner),
    scale: float = 1.0,
    *,
    in_cluster: bool = False,
) -> None:
    """Declare all exchanges, and the queues of `owners`; `scale` shortens the delays in tests.

    Raises Unavailable, also when one exists with other arguments, which can never be changed.
    """
    queues = topology.queues(owners, scale)
    if in_cluster:
        queues = tuple(map(_replicated, queues))
    await rabbitmq.declare(amqp_url, topology.EXCHANGES, queues)


def _replicated(queue: Queue) -> Queue:
    """Return a queue as a quorum queue: a classic one is away while its only node is."""
    if queue.arguments["x-queue-type"] != "classic":
        return queue
    kind: Mapping[str, str | int] = {
        "x-queue-type": "quorum",
        "x-delivery-limit": topology.DELIVERY_LIMIT,
    }
    return replace(queue, arguments={**queue.arguments, **kind})


async def grant(
    management_url: str, user: str, password: str, vhost: str, passwords: Mapping[str, str]
) -> None:
    """Create a user with the least rights in a vhost for each service in `passwords`.

    `user` is an administrator of the broker. Raises ValueError for a name of no service,
    OSError when the management API cannot be reached, ManagementError when it refuses.
    """
    unknown = passwords.keys() - {each.name for each in rights.USERS}
    if unknown:
        raise ValueError(f"no service is called {', '.join(sorted(unknown))}")
    management = Management(management_url, user, password)
    for each in rights.USERS:
        if each.name in passwords:
            account = {"password": passwords[each.name]}
            await asyncio.to_thread(management.put_user, vhost, each, account)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    declaring = actions.add_parser("declare", help="declare exchanges, queues and bindings")
    granting = actions.add_parser(
        "grant",
        help="create a user with the least rights for each service",
        description="Passwords are taken from "
        + ", ".join(map(_password_variable, Owner))
        + "; the administrator and the vhost from the AMQP URL.",
    )
    making = actions.add_parser(
        "program",
        help="create a user with the least rights, and a queue of events, for a program",
        description="Prints the AMQP URL of the program. Its password is taken from"
        " NAME_AMQP_PASSWORD (dashes as underscores). Without that a new user gets a random one,"
        " and a user that is there keeps its own. Host and vhost are those of the administrator's"
        " AMQP URL.",
    )
    making.add_argument("name", type=_program, metavar="NAME", help="of the user: a-z, 0-9 and -")
    making.add_argument(
        "--event",
        action="append",
        choices=rights.PROGRAM_EVENTS,
        metavar="KEY",
        help="an event for the queue, as email.bounced; again for more (default: all of mails)",
    )
    making.add_argument(
        "--remove", action="store_true", help="remove the user, its queue and the events in it"
    )
    for action in (granting, making):
        action.add_argument(
            "--management-url",
            metavar="URL",
            help="RabbitMQ's management API (default: RABBITMQ_MANAGEMENT_URL, else that of the"
            " running stack)",
        )
    declaring.add_argument(
        "--cluster",
        action="store_true",
        help="also the queues of questions outlive the loss of a node; a question then costs the"
        " broker as much as a mail",
    )
    for action in (declaring, granting, making):
        cli.add_amqp_url(action)
        action.add_argument(
            "--wait",
            type=cli.seconds,
            default=_START_SECONDS,
            metavar="SECONDS",
            help=f"for a broker that is still starting ({_START_SECONDS:g})",
        )
    parser.set_defaults(run=run)


def _program(text: str) -> str:
    try:
        return rights.check_program(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(arguments: argparse.Namespace) -> int:
    """Run the action and return the exit code; print an error as one line."""
    action = {"declare": _declare, "grant": _grant, "program": _make_program}[arguments.action]
    return cli.run_on_broker(action, arguments)


async def _declare(url: str, arguments: argparse.Namespace) -> int:
    async with Broker.connect(url, "ops topology", patience=arguments.wait):
        await declare(url, in_cluster=arguments.cluster)
    print("topology declared")
    return 0


async def _grant(url: str, arguments: argparse.Namespace) -> int:
    management, vhost = management_of(url, arguments.management_url)
    passwords = _passwords(os.environ)
    await _answering(management, arguments.wait)
    await grant(management.url, management.user, management.password, vhost, passwords)
    print(f"rights granted to {', '.join(passwords)}")
    return 0


async def _make_program(url: str, arguments: argparse.Namespace) -> int:
    """Print the program's URL alone to standard output, for `$(…)`."""
    name = arguments.name
    management, vhost = management_of(url, arguments.management_url)
    await _answering(management, arguments.wait)
    if arguments.remove:
        program.remove(management, vhost, name)
        print(f"removed: the user {name} and its queue", file=sys.stderr)
    else:
        keys = arguments.event or rights.ALL_PROGRAM_EVENTS
        password = os.environ.get(_password_variable(name)) or None
        made = program.make(management, vhost, name, password, keys)
        if made is None:
            print(f"the password of {name} was kept, and is not in the URL", file=sys.stderr)
        print(program.login(url, name, made))
        print(f"its own shard for mail is {shard_of(name)}", file=sys.stderr)
    for each in program.leftovers(management, vhost, name):
        print(f"also there: the {each}; delete it if it is not needed", file=sys.stderr)
    return 0


def management_of(url: str, given: str | None) -> tuple[Management, str]:
    """Return the management API and the vhost of an administrator's URL."""
    management_url = cli.find_management_url(given, os.environ)
    where = urlsplit(url)
    user, password = unquote(where.username or "guest"), unquote(where.password or "guest")
    management = Management(management_url, user, password)
    return management, unquote(where.path.removeprefix("/")) or "/"


def _passwords(environ: Mapping[str, str]) -> Mapping[str, str]:
    variables = {owner: _password_variable(owner) for owner in Owner}
    missing = [name for name in variables.values() if not environ.get(name)]
    if missing:
        raise BrokerError(f"no password: set {', '.join(missing)}")
    return {owner: environ[name] for owner, name in variables.items()}


def _password_variable(user: str) -> str:
    return f"{user.upper().replace('-', '_')}_AMQP_PASSWORD"


async def _answering(management: Management, patience: float) -> None:
    """Wait until the management API answers, which may start later than AMQP."""
    outage = Outage("the management API", masked(URL(management.url)), "RABBITMQ_MANAGEMENT_URL")
    give_up = time.monotonic() + patience
    while True:
        try:
            await asyncio.to_thread(management.request, "GET", "/whoami")
        except (OSError, HTTPException) as error:
            if is_refused_by_tls(error) or time.monotonic() >= give_up:
                raise BrokerError(outage.failure(error)) from error
            outage.log(error)
            await asyncio.sleep(_POLL_SECONDS)
        else:
            return
