"""Containers of our own on the machine's Docker engine, if there is one."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from ops.broker import START_SECONDS, STOP_SECONDS, BrokerAddress, BrokerError

_ANSWER = 10.0  # seconds until an engine that hangs counts as none
_COMMAND = 60.0  # seconds for anything but a pull
_PULL = 600.0  # seconds; the image may have to be pulled
_RECORD = "container"  # the file that tells a later launcher which container to end
IMAGE = "rabbitmq:4.3-management"


class DockerError(Exception):
    """The engine refused or could not be reached; the message is what it said."""


def answers() -> bool:
    """Whether there is a Docker engine this user may use."""
    if shutil.which("docker") is None:
        return False
    try:
        docker("version", "--format", "{{.Server.Version}}", within=_ANSWER)
    except DockerError:
        return False
    return True


def docker(*arguments: str, within: float | None = _COMMAND) -> str:
    """Run the client; give what it printed. Raises DockerError."""
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
    """A container by its name, recorded in a directory for a later launcher."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self._record = directory / _RECORD

    def run(self, image: str, *options: str, command: tuple[str, ...] = ()) -> None:
        """Start it anew, pulling the image if need be. Raises DockerError."""
        self._record.parent.mkdir(parents=True, exist_ok=True)
        self._record.write_text(self.name)
        docker("rm", "--force", self.name)  # of a launcher that was killed
        named = (f"--name={self.name}", *options)
        docker("run", "--detach", *named, image, *command, within=_PULL)

    def stop(self, within: float) -> None:
        """End it in good order, by force after `within` seconds, and remove it."""
        docker("stop", "--time", str(round(within)), self.name, within=within + _COMMAND)
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
        """Give the last lines it printed."""
        return docker("logs", "--tail", "5", self.name)


def remove_recorded(directory: Path) -> str | None:
    """Remove the container a killed launcher recorded there; tell its name, None without one."""
    record = directory / _RECORD
    if not record.exists():
        return None
    name = record.read_text().strip()
    Container(name, directory).remove()
    return name


class RabbitContainer:
    """One container, on 127.0.0.1 only, its data in a volume of the same name.

    The name is made from `directory`, so that every tree and every test run has a container of its
    own and finds its data again.
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
            said = "" if served else self._container.log()
        except DockerError as error:
            raise BrokerError(str(error)) from error
        if not served:
            self.kill()
            raise BrokerError(f"RabbitMQ did not start in its container:\n{said}")

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

    def restart(self) -> None:
        """Stop in good order and start again on the same data and ports."""
        self.stop()
        self.start()

    def discard(self) -> None:
        """End it at once and delete its volume."""
        self.kill()
        docker("volume", "rm", "--force", self._volume)

    def _options(self) -> list[str]:
        ports = self.address.ports
        return [
            "--hostname=postrider",  # the node's name, and so its data's folder, follows it
            f"--volume={self._volume}:/var/lib/rabbitmq",
            f"--publish=127.0.0.1:{ports.amqp}:5672",
            f"--publish=127.0.0.1:{ports.management}:15672",
            f"--env=RABBITMQ_DEFAULT_USER={self.address.user}",
            f"--env=RABBITMQ_DEFAULT_PASS={self.address.password}",
        ]
