"""`ops forget`: ask all services to remove what they keep of a person's address."""

import argparse
import asyncio
import os
import sys
import uuid

from ops import cli
from ops.broker import BrokerError
from shared.broker import Broker
from shared.contracts import ForgetAddress
from shared.contracts.address import check_address
from shared.errors import Unavailable

DONE = """\
{id}: the broker keeps the request until each service has done it.

ledger   deletes mails to the address with their outcomes, bounces and other entries; of an opt-out
         the keyed hash stays, so that it still counts
sender   deletes outcomes for it, the last day's within SENDER_REMEMBER (7 days)
otp      deletes codes, guesses and counts of it

Left are mails in queues and dead letters: see ops dead. Sums stay, they name nobody."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the address."""
    parser.add_argument("email", metavar="EMAIL", help="in any case of letters")
    cli.add_amqp_url(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Publish the request and return the exit code; print an error as one line."""
    try:
        email = check_address(arguments.email)
        url = cli.find_amqp_url(arguments.amqp_url, os.environ)
        command = ForgetAddress(id=str(uuid.uuid4()), email=email)
        with cli.quiet():
            asyncio.run(_publish(url, command))
    except (BrokerError, Unavailable, ValueError) as error:
        print(f"ops forget: {error}", file=sys.stderr)
        return 1
    print(DONE.format(id=command.id))
    return 0


async def _publish(url: str, command: ForgetAddress) -> None:
    async with Broker.connect(url, "ops forget", patience=0) as broker:
        await broker.publish(command)
