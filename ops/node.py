"""A private RabbitMQ: a node, run from the machine's programs, or else a container."""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ops import credentials, docker
from ops.broker import (
    START_SECONDS,
    STOP_SECONDS,
    BrokerAddress,
    BrokerError,
    BrokerPorts,
    RabbitServer,
)
from ops.docker import RabbitContainer
from ops.ports import is_free
from ops.process import PidFiles, ended

_PACKAGES = Path(__file__).with_name("packages")
_NONE_FOUND = (
    "no RabbitMQ: set AMQP_URL, install rabbitmq-server (Debian, Ubuntu: as root "
    "'apt-get install rabbitmq-server') or start a Docker engine"
)
_EPMD_STOP_SECONDS = 5.0
_SERVER_FOLDERS = ("/usr/lib/rabbitmq/bin", "/usr/local/opt/rabbitmq/sbin", "/opt/homebrew/sbin")
_EPMD_FOLDERS = ("/usr/lib/erlang/bin", "/usr/lib64/erlang/bin", "/usr/local/bin")
CONTROL_SECONDS = 60.0  # a command loads an Erlang machine of its own
_LOG_LINES = 5  # shown when a start fails


# Returns a command that runs another one.
Wrapper = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True)
class RabbitPrograms:
    """The programs of a node."""

    server: Path  # RabbitMQ's start script
    epmd: Path  # Erlang's port mapper

    @property
    def control(self) -> Path:
        """Its command for operators."""
        return self.server.with_name("rabbitmqctl")

    @classmethod
    def find(cls, path: str = os.environ.get("PATH", os.defpath)) -> Self | None:
        """Find them, in PATH and other usual folders; return None when one is missing."""
        # Debian's wrapper in /usr/sbin runs for root and rabbitmq alone, so it comes last.
        folders = os.pathsep.join((*_SERVER_FOLDERS, path, "/usr/sbin"))
        server = shutil.which("rabbitmq-server", path=folders)
        epmd = shutil.which("epmd", path=os.pathsep.join((path, *_EPMD_FOLDERS)))
        return cls(Path(server), Path(epmd)) if server and epmd else None


@dataclass(frozen=True)
class ClusterMember:
    """The name of a node, those of all nodes of its cluster, and the secret that they share."""

    name: str = "postrider@localhost"
    nodes: Sequence[str] = ()
    cookie: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)


class RabbitNode(RabbitServer):
    """A node with its own ports, cookie, epmd, home, configuration and data.

    It needs no root and no system service, and does not disturb the system's node. `pids` records
    its processes for a later launcher. Nodes of one cluster have one epmd port. The path of
    `directory` must not contain any of the characters `*?^![]{}` (rabbitmq.com/docs/relocate).
    """

    def __init__(  # noqa: PLR0913 -- its place, its parts and its neighbours
        self,
        directory: Path,
        address: BrokerAddress,
        programs: RabbitPrograms,
        pids: PidFiles | None = None,
        start_as: Wrapper = list,
        *,
        member: ClusterMember | None = None,
    ) -> None:
        self.address = address
        self._member = member or ClusterMember()
        self._directory = directory.absolute()
        self._programs = programs
        self._pids = pids or PidFiles(self._directory / "pids")
        self._start_as = start_as
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def _pid(self, name: str) -> int | None:
        child = self._children.get(name)
        return child.pid if child and child.poll() is None else None

    def start(self, within: float = START_SECONDS) -> None:
        """Start it on its data; return when it serves AMQP and the management API.

        Raises BrokerError, with the last lines of the log, after `within` seconds.
        """
        self._write_files()
        ports = self.address.ports
        if self._pid("epmd") is None and is_free(ports.epmd):
            # Started first: the node would start one that outlives it.
            port = str(ports.epmd)
            self._spawn("epmd", self._programs.epmd, "-port", port, "-address", "127.0.0.1")
        self._spawn("rabbitmq", self._programs.server)
        if not self.address.wait(within, alive=lambda: self._pid("rabbitmq") is not None):
            self.kill()
            raise BrokerError(f"RabbitMQ did not start: {self._tail()}")

    def stop(self, within: float = STOP_SECONDS) -> None:
        """End the node in good order, by force after `within` seconds, and then its epmd."""
        self._end("rabbitmq", within)
        self._end("epmd", _EPMD_STOP_SECONDS)

    def join(self) -> str:
        """Wait for its end, however long, and describe it."""
        child = self._children.get("rabbitmq")
        return ended(child.wait()) if child else "did not start"

    def kill(self) -> None:
        """Kill the Erlang machine and its epmd, as a power cut does."""
        for name in ("rabbitmq", "epmd"):
            if child := self._children.get(name):
                child.kill()
            self._end(name, _EPMD_STOP_SECONDS)

    def discard(self) -> None:
        """Kill it and delete its directory."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def control(self, *words: str) -> None:
        """Run `rabbitmqctl` on the running node. Raises BrokerError with its last line."""
        done = subprocess.run(  # noqa: S603 -- a program found on this machine
            (self._programs.control, *words),
            env=self._environment(),
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=CONTROL_SECONDS,
            check=False,
        )
        if done.returncode:
            raise BrokerError(f"rabbitmqctl {words[0]}: {done.stdout.strip().splitlines()[-1:]}")

    def _spawn(self, name: str, *command: str | Path) -> None:
        log = self._directory / "log"
        with (log / f"{name}.out").open("ab") as output:
            child = subprocess.Popen(  # noqa: S603 - programs found on this machine, fixed arguments
                self._start_as([str(each) for each in command]),
                env=self._environment(),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the launcher alone gets the terminal's Ctrl-C
            )
        self._children[name] = child
        self._pids.add(name, child.pid)

    def _end(self, name: str, within: float) -> None:
        child = self._children.pop(name, None)
        if child is None:
            return
        child.terminate()
        try:
            child.wait(within)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self._pids.remove(name)

    def _environment(self) -> dict[str, str]:
        ports, here = self.address.ports, self._directory
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(here),  # where Erlang looks for its cookie
            # Every script reads this file: the system's settings must not be in it.
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            # The start script then becomes the Erlang machine instead of waiting beside it: signals
            # to our child reach the node.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_NODENAME": self._member.name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(ports.amqp),
            "RABBITMQ_DIST_PORT": str(ports.distribution),
            "ERL_EPMD_PORT": str(ports.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(here / "data"),
            "RABBITMQ_LOG_BASE": str(here / "log"),
            "RABBITMQ_LOGS": str(here / "log" / "rabbitmq.log"),
            "RABBITMQ_CONFIG_FILE": str(here / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(here / "none.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / "plugins"),
        }

    def _write_files(self) -> None:
        here = self._directory
        for folder in (here, here / "data", here / "log"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (here / "rabbitmq.conf").write_text(
            _configuration(self.address.ports, here / "definitions.json")
            + _clustering(self._member.nodes)
        )
        (here / "plugins").write_text("[rabbitmq_management].\n")
        credentials.write_private(here / "definitions.json", json.dumps(_definitions(self.address)))
        cookie = here / ".erlang.cookie"
        if not cookie.exists():
            credentials.write_private(cookie, self._member.cookie)
            cookie.chmod(0o400)  # Erlang insists

    def _tail(self) -> str:
        lines = [
            line
            for name in ("rabbitmq.log", "rabbitmq.out", "epmd.out")
            if (path := self._directory / "log" / name).exists()
            for line in path.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        ]
        return "\n  ".join([f"see {self._directory / 'log'}", *lines])


def _configuration(ports: BrokerPorts, definitions: Path) -> str:
    return f"""\
management.tcp.ip = 127.0.0.1
management.tcp.port = {ports.management}
# Read at every start, so that the administrator's password is the current one.
load_definitions = {definitions}
log.file.level = info
# RabbitMQ advises more than its default of 50 MB (rabbitmq.com/docs/disk-alarms).
disk_free_limit.absolute = 200MB
# 16 MiB, the default of RabbitMQ 4; that of 3.x is 128 MiB.
max_message_size = 16777216
"""


def _clustering(nodes: Sequence[str]) -> str:
    """Return the lines of a node that forms a cluster with others at its first start."""
    if not nodes:
        return ""
    peers = (f"cluster_formation.classic_config.nodes.{i} = {n}" for i, n in enumerate(nodes, 1))
    lines = ("cluster_formation.peer_discovery_backend = classic_config", *peers)
    # 3.x goes on in both halves of a partition by default; 4.3 ignores the key.
    return "\n".join((*lines, "cluster_partition_handling = pause_minority", ""))


def _definitions(address: BrokerAddress) -> dict[str, object]:
    rights = {"configure": ".*", "write": ".*", "read": ".*"}
    return {
        "vhosts": [{"name": "/"}],
        "users": [
            {
                "name": address.user,
                "password": address.password,
                "tags": "administrator",
            }
        ],
        "permissions": [{"user": address.user, "vhost": "/", **rights}],
    }


def prepare() -> None:
    """Install RabbitMQ from the system's packages if the machine has none and no Docker engine.

    Raises BrokerError when it cannot be installed either.
    """
    if RabbitPrograms.find() or docker.answers():
        return
    if _packages("--check"):
        raise BrokerError(_NONE_FOUND)
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
    # Other users read what a package installs, whatever mask this process has.
    return subprocess.run(command, check=False, umask=0o022).returncode  # noqa: S603 - our script
