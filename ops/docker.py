"""Containers of our own on the machine's Docker engine, if there is one."""

import shutil
import subprocess
from pathlib import Path

_ANSWER = 10.0  # seconds until an engine that hangs counts as none
_COMMAND = 60.0  # seconds for anything but a pull
_PULL = 600.0  # seconds; the image may have to be pulled
_RECORD = "container"  # the file that tells a later launcher which container to end


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
