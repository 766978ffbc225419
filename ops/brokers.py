"""The choice of a RabbitMQ: a given one, the machine's, a container, or a new package."""

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
_NONE_FOUND = (
    "no RabbitMQ: set AMQP_URL, install rabbitmq-server (Debian, Ubuntu: as root "
    "'apt-get install rabbitmq-server') or start a Docker engine"
)


class BrokerSource(StrEnum):
    """Where a broker comes from, in order of preference."""

    GIVEN = "given"
    NODE = "node"
    CONTAINER = "container"
    PACKAGE = "package"
    NONE = "none"


@dataclass(frozen=True)
class Machine:
    """Whether the machine has RabbitMQ, has a Docker engine, and can install packages."""

    node: bool
    docker: bool
    installs: bool


def choose(amqp_url: str | None, machine: Machine) -> BrokerSource:
    """Return where the broker comes from. Pure."""
    if amqp_url:
        return BrokerSource.GIVEN
    if machine.node:
        return BrokerSource.NODE
    if machine.docker:
        return BrokerSource.CONTAINER
    return BrokerSource.PACKAGE if machine.installs else BrokerSource.NONE


def inspect() -> Machine:
    """Look at this machine, no further than the first thing that is found."""
    if RabbitPrograms.find():
        return Machine(node=True, docker=False, installs=False)
    if docker.answers():
        return Machine(node=False, docker=True, installs=False)
    return Machine(node=False, docker=False, installs=_packages("--check") == 0)


def prepare() -> None:
    """Install RabbitMQ from the system's packages if the machine has none and no Docker engine.

    Raises BrokerError when RabbitMQ cannot be installed either.
    """
    match choose(None, inspect()):
        case BrokerSource.NONE:
            raise BrokerError(_NONE_FOUND)
        case BrokerSource.PACKAGE:
            _packages("rabbitmq-server")


def private(
    directory: Path, address: BrokerAddress, pids: PidFiles, start_as: Wrapper = list
) -> RabbitServer:
    """Return a broker that is not started yet; a node keeps its data in `directory`.

    `start_as` wraps the command of each process of a node. Raises BrokerError when there is no
    RabbitMQ and no Docker engine.
    """
    programs = RabbitPrograms.find()
    if programs is not None:
        return RabbitNode(directory, address, programs, pids, start_as)
    if docker.answers():
        return RabbitContainer(directory, address)
    raise BrokerError(_NONE_FOUND)


def _packages(argument: str) -> int:
    command = [str(_PACKAGES), argument]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - our script
