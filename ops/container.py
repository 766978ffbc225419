"""A private RabbitMQ in a container, where the machine has a Docker engine but no RabbitMQ."""

import hashlib
import subprocess
from pathlib import Path

from ops.broker import Address, BrokerError

_IMAGE = "rabbitmq:4.0-management"
_START = 180.0  # seconds; the image may have to be pulled before
_STOP = 30.0  # seconds
_PULL = 600.0  # seconds
_NAME = "container"  # the file that tells a later launcher which container to end


class RabbitContainer:
    """One container, on 127.0.0.1 only, its data in a volume of the same name.

    The name is made from `directory`, so that every tree and every test run has a container of its
    own and finds its data again.
    """

    def __init__(self, directory: Path, address: Address) -> None:
        self.address = address
        self._directory = directory.absolute()
        digest = hashlib.sha256(str(self._directory).encode()).hexdigest()[:12]
        self.name = f"postrider-{digest}"

    def start(self, within: float = _START) -> None:
        """Create and start it; return when it serves. Raises BrokerError."""
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / _NAME).write_text(self.name)
        _docker("rm", "--force", self.name, check=False)  # of a launcher that was killed
        _docker("run", "--detach", *self._options(), _IMAGE, timeout=_PULL)
        if not self.address.wait(within, alive=self._runs):
            log = _docker("logs", "--tail", "5", self.name, check=False)
            self.kill()
            raise BrokerError(f"RabbitMQ did not start in its container:\n{log}")

    def stop(self, within: float = _STOP) -> None:
        """End it in good order; the data stay in the volume."""
        _docker(
            "stop", "--time", str(round(within)), self.name, check=False, timeout=within + _STOP
        )
        self.kill()

    def kill(self) -> None:
        """End it at once, as a power cut would; the data stay in the volume."""
        _docker("rm", "--force", self.name, check=False)
        (self._directory / _NAME).unlink(missing_ok=True)

    def restart(self, within: float = _START) -> None:
        """Stop in good order and start again on the same data and ports."""
        self.stop()
        self.start(within)

    def discard(self) -> None:
        """End it at once and delete its volume."""
        self.kill()
        _docker("volume", "rm", "--force", self.name, check=False)

    def _runs(self) -> bool:
        return bool(_docker("ps", "--quiet", "--filter", f"name=^{self.name}$", check=False))

    def _options(self) -> list[str]:
        ports = self.address.ports
        return [
            f"--name={self.name}",
            "--hostname=postrider",  # the node's name, and so its data directory's, follows it
            f"--volume={self.name}:/var/lib/rabbitmq",
            f"--publish=127.0.0.1:{ports.amqp}:5672",
            f"--publish=127.0.0.1:{ports.management}:15672",
            f"--env=RABBITMQ_DEFAULT_USER={self.address.user}",
            f"--env=RABBITMQ_DEFAULT_PASS={self.address.password}",
        ]


def end_leftover(directory: Path) -> bool:
    """Remove the container that a killed launcher left; tell whether there was one recorded."""
    record = directory / _NAME
    if not record.exists():
        return False
    _docker("rm", "--force", record.read_text().strip(), check=False)
    record.unlink()
    return True


def _docker(*arguments: str, check: bool = True, timeout: float = _START) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            ["docker", *arguments],  # noqa: S607 - the user's own docker client
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokerError(f"docker {arguments[0]}: {error}") from error
    if check and done.returncode:
        raise BrokerError(f"docker {arguments[0]}: {done.stderr.strip()}")
    return (done.stdout + done.stderr).strip() if arguments[0] == "logs" else done.stdout.strip()
