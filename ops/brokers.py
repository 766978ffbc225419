"""Which RabbitMQ to use: a given one, the machine's, a container, or one installed for it."""

import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ops import docker
from ops.broker import BrokerAddress, BrokerError, RabbitServer
from ops.docker import RabbitContainer
from ops.node import RabbitNode, RabbitPrograms, Wrapper
from ops.process import PidFiles

_PACKAGES = Path(__file__).with_name("packages")
_NOTHING = (
    "no RabbitMQ: set AMQP_URL, install rabbitmq-server (Debian, Ubuntu: as root "
    "'apt-get install rabbitmq-server') or start a Docker engine"
)


class BrokerSource(StrEnum):
    """Where a broker comes from, the preferred first."""

    GIVEN = "given"
    NODE = "node"
    CONTAINER = "container"
    PACKAGE = "package"
    NONE = "none"


@dataclass(frozen=True)
class Machine:
    """What this machine offers."""

    node: bool
    docker: bool
    installs: bool


def choose(amqp_url: str | None, machine: Machine) -> BrokerSource:
    """Decide where the broker comes from."""
    if amqp_url:
        return BrokerSource.GIVEN
    if machine.node:
        return BrokerSource.NODE
    if machine.docker:
        return BrokerSource.CONTAINER
    return BrokerSource.PACKAGE if machine.installs else BrokerSource.NONE


def inspect() -> Machine:
    """Look at this machine; asks no further than the first thing found."""
    if RabbitPrograms.find():
        return Machine(node=True, docker=False, installs=False)
    if docker.answers():
        return Machine(node=False, docker=True, installs=False)
    return Machine(node=False, docker=False, installs=_packages("--check") == 0)


def prepare() -> None:
    """Install RabbitMQ from the system's packages when there is no other way to have one.

    Raises BrokerError when there is none to be had.
    """
    match choose(None, inspect()):
        case BrokerSource.NONE:
            raise BrokerError(_NOTHING)
        case BrokerSource.PACKAGE:
            _packages("rabbitmq-server")


def private(
    directory: Path, address: BrokerAddress, pids: PidFiles, start_as: Wrapper = list
) -> RabbitServer:
    """Give a broker of our own, not started yet; a node keeps its data in `directory`.

    `start_as` makes of the command of a node's process what is run in its place. Raises
    BrokerError when there is none to be had.
    """
    programs = RabbitPrograms.find()
    if programs is not None:
        return RabbitNode(directory, address, programs, pids, start_as)
    if docker.answers():
        return RabbitContainer(directory, address)
    raise BrokerError(_NOTHING)


def _packages(argument: str) -> int:
    command = [str(_PACKAGES), argument]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - our script
