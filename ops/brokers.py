"""Which RabbitMQ to use: a given one, the machine's, a container, or one installed for it."""

import shutil
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ops.broker import Address, Broker, BrokerError
from ops.container import RabbitContainer
from ops.node import Programs, RabbitNode
from ops.process import PidFiles

_PACKAGES = Path(__file__).with_name("packages")
_ENGINE_ANSWER = 10.0  # seconds until a Docker engine that hangs counts as none
_NOTHING = (
    "no RabbitMQ: set AMQP_URL, install rabbitmq-server (Debian, Ubuntu: as root "
    "'apt-get install rabbitmq-server') or start a Docker engine"
)


class Source(StrEnum):
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


def choose(amqp_url: str | None, machine: Machine) -> Source:
    """Decide where the broker comes from."""
    if amqp_url:
        return Source.GIVEN
    if machine.node:
        return Source.NODE
    if machine.docker:
        return Source.CONTAINER
    return Source.PACKAGE if machine.installs else Source.NONE


def inspect() -> Machine:
    """Look at this machine; asks no further than the first thing found."""
    if Programs.find():
        return Machine(node=True, docker=False, installs=False)
    if docker_answers():
        return Machine(node=False, docker=True, installs=False)
    return Machine(node=False, docker=False, installs=_run(str(_PACKAGES), "--check"))


def docker_answers() -> bool:
    """Whether there is a Docker engine this user may use."""
    docker = shutil.which("docker")
    return docker is not None and _run(docker, "version", "--format", "{{.Server.Version}}")


def prepare() -> None:
    """Install RabbitMQ from the system's packages when there is no other way to have one.

    Raises BrokerError when there is none to be had.
    """
    match choose(None, inspect()):
        case Source.NONE:
            raise BrokerError(_NOTHING)
        case Source.PACKAGE:
            subprocess.run([_PACKAGES, "rabbitmq-server"], check=False)  # noqa: S603 - our script


def private(directory: Path, address: Address, pids: PidFiles) -> Broker:
    """Give a broker of our own, not started yet; a node keeps its data in `directory`.

    Raises BrokerError when there is none to be had.
    """
    programs = Programs.find()
    if programs is not None:
        return RabbitNode(directory, address, programs, pids)
    if docker_answers():
        return RabbitContainer(directory, address)
    raise BrokerError(_NOTHING)


def _run(*command: str) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - our script or the docker client, fixed arguments
            command, check=False, capture_output=True, timeout=_ENGINE_ANSWER
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
