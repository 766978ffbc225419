"""A private PostgreSQL server for a test run, from the machine's programs or in a container."""

import time
from pathlib import Path

from ops import docker
from ops.postgres import (
    FAST,
    START_SECONDS,
    USER,
    PostgresAccount,
    PostgresError,
    PostgresPrograms,
    PostgresServer,
)

IMAGE = "postgres:18"
_POLL_SECONDS = 0.05
_NONE_FOUND = (
    "no PostgreSQL: set POSTGRES_URL, install postgresql (Debian, Ubuntu: as root "
    "'apt-get install postgresql') or start a Docker engine"
)


class PostgresContainer:
    """A server in a container, on 127.0.0.1 only, its data in memory."""

    def __init__(self, record: Path, account: PostgresAccount, image: str = IMAGE) -> None:
        self.account = account
        self._image = image
        self._container = docker.Container(f"postrider-postgres-{account.port}", record)

    def start(self) -> None:
        """Create and start the server; return when it serves. Raises PostgresError."""
        try:
            self._container.run(self._image, *self._options(), command=("postgres", *FAST))
            self._wait()
        except docker.DockerError as error:
            self.discard()
            raise PostgresError(str(error)) from error

    def discard(self) -> None:
        """End the server at once and delete its data."""
        self._container.remove()

    def _options(self) -> list[str]:
        return [
            "--tmpfs=/data",  # the default differs: up to 17 and from 18 on
            "--env=PGDATA=/data/postgres",
            f"--publish=127.0.0.1:{self.account.port}:5432",
            f"--env=POSTGRES_USER={USER}",
            f"--env=POSTGRES_PASSWORD={self.account.password}",
        ]

    def _wait(self) -> None:
        # By TCP: while the image creates the data, it serves a socket file only.
        probe = ("exec", self._container.name, "pg_isready", "--quiet", "--host=127.0.0.1")
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                docker.docker(*probe)
            except docker.DockerError:
                if time.monotonic() > deadline or not self._container.runs:
                    raise
                time.sleep(_POLL_SECONDS)
            else:
                return


def private(record: Path, account: PostgresAccount) -> PostgresServer | PostgresContainer:
    """Return a server that is not started yet. Raises PostgresError when there is none."""
    if programs := PostgresPrograms.find():
        return PostgresServer(record, account, programs)
    if docker.answers():
        return PostgresContainer(record, account)
    raise PostgresError(_NONE_FOUND)
