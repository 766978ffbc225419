"""Containers on the machine's Docker engine, and a private RabbitMQ in one of them."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from ops.broker import START_SECONDS, STOP_SECONDS, BrokerAddress, BrokerError, RabbitServer

_PROBE_SECONDS = 10.0  # until an engine that hangs counts as none
_COMMAND_SECONDS = 60.0
_RUN_SECONDS = 600.0  # the image may have to be pulled
_RECORD = "container"  # the file with the name of a container, for a later launcher
IMAGE = "rabbitmq:4.3-management"


class DockerError(Exception):
    """The engine refused, or could not be reached. The message is its output."""


def answers() -> bool:
    """Return whether there is a Docker engine that this user may use."""
    if shutil.which("docker") is None:
        return False
    try:
        docker("version", "--format", "{{.Server.Version}}", within=_PROBE_SECONDS)
    except DockerError:
        return False
    return True


def docker(*arguments: str, within: float | None = _COMMAND_SECONDS) -> str:
    """Run the Docker client; return its output. Raises DockerError."""
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            ["docker", *arguments],  # noqa: S607 - the user's own client
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=within,
        )
    except subprocess.CalledProcessError as error:
        raise DockerError(f"docker {arguments[0]}: {error.stdout.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DockerError(f"docker {arguments[0]}: {error}") from error
    return done.stdout.strip()


class Container:
    """A container, whose name is recorded in a directory for a later launcher."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self._record = directory / _RECORD

    def run(self, image: str, *options: str, command: tuple[str, ...] = ()) -> None:
        """Start a new container; pull the image if it is missing. Raises DockerError."""
        self._record.parent.mkdir(parents=True, exist_ok=True)
        self._record.write_text(self.name)
        docker("rm", "--force", self.name)
        named = (f"--name={self.name}", *options)
        docker("run", "--detach", *named, image, *command, within=_RUN_SECONDS)

    def stop(self, within: float) -> None:
        """Stop it, by force after `within` seconds, and remove it."""
        docker("stop", "--time", str(round(within)), self.name, within=within + _COMMAND_SECONDS)
        self.remove()

    def remove(self) -> None:
        """End it at once and remove it; a named volume stays."""
        docker("rm", "--force", "--volumes", self.name)
        self._record.unlink(missing_ok=True)

    def join(self) -> str:
        """Wait for its end, however long; return its exit code. Raises DockerError."""
        return docker("wait", self.name, within=None)

    @property
    def runs(self) -> bool:
        """Whether it runs."""
        return bool(docker("ps", "--quiet", "--filter", f"name=^{self.name}$"))

    def log(self) -> str:
        """Return the last lines of its output."""
        return docker("logs", "--tail", "5", self.name)


def remove_recorded(directory: Path) -> str | None:
    """Remove the container that is recorded there; return its name, None without a record."""
    record = directory / _RECORD
    if not record.exists():
        return None
    name = record.read_text().strip()
    Container(name, directory).remove()
    return name


class RabbitContainer(RabbitServer):
    """RabbitMQ in a container, on 127.0.0.1 only, with its data in a volume of the same name.

    The name follows from `directory`: every tree and every test run has its own container, and
    finds its data again.
    """

    def __init__(self, directory: Path, address: BrokerAddress, image: str = IMAGE) -> None:
        self.address = address
        self._image = image
        digest = hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:12]
        self._volume = f"postrider-{digest}"
        self._container = Container(self._volume, directory)

    def start(self, within: float = START_SECONDS) -> None:
        """Create and start it; return when it serves. Raises BrokerError."""
        try:
            self._container.run(self._image, *self._options())
            served = self.address.wait(within, alive=lambda: self._container.runs)
            output = "" if served else self._container.log()
        except DockerError as error:
            raise BrokerError(str(error)) from error
        if not served:
            self.kill()
            raise BrokerError(f"RabbitMQ did not start in its container:\n{output}")

    def stop(self, within: float = STOP_SECONDS) -> None:
        """End it in good order; the data stay in the volume."""
        self._container.stop(within)

    def join(self) -> str:
        """Wait for its end, however long, and describe it."""
        try:
            return f"exited with code {self._container.join()}"
        except DockerError as error:  # it is gone, or never was
            return f"is not there: {error}"

    def kill(self) -> None:
        """End it at once, as a crash would; the data stay in the volume."""
        self._container.remove()

    def discard(self) -> None:
        """End it at once and delete its volume."""
        self.kill()
        docker("volume", "rm", "--force", self._volume)

    def _options(self) -> list[str]:
        ports = self.address.ports
        return [
            "--hostname=postrider",  # part of the node's name, and so of its data's folder
            f"--volume={self._volume}:/var/lib/rabbitmq",
            f"--publish=127.0.0.1:{ports.amqp}:5672",
            f"--publish=127.0.0.1:{ports.management}:15672",
            f"--env=RABBITMQ_DEFAULT_USER={self.address.user}",
            f"--env=RABBITMQ_DEFAULT_PASS={self.address.password}",
        ]
