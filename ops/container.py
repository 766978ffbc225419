"""A private RabbitMQ in a container, where the machine has a Docker engine but no RabbitMQ."""

import hashlib
from pathlib import Path

from ops.broker import START_SECONDS, STOP_SECONDS, Address, BrokerError
from ops.docker import Container, DockerError, docker

_IMAGE = "rabbitmq:4.0-management"


class RabbitContainer:
    """One container, on 127.0.0.1 only, its data in a volume of the same name.

    The name is made from `directory`, so that every tree and every test run has a container of its
    own and finds its data again.
    """

    def __init__(self, directory: Path, address: Address) -> None:
        self.address = address
        digest = hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:12]
        self._volume = f"postrider-{digest}"
        self._container = Container(self._volume, directory)

    def start(self, within: float = START_SECONDS) -> None:
        """Create and start it; return when it serves. Raises BrokerError."""
        try:
            self._container.run(_IMAGE, *self._options())
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
