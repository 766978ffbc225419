"""A private PostgreSQL server for tests, from the machine's programs or a container.

It trades durability for speed and must not keep anything that is wanted.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from ops import docker
from ops.process import PidFiles

_USER = "postrider"
IMAGE = "postgres:18"
_START = 30.0  # seconds; about 1 on an idle machine
_STOP = 5.0  # seconds
_POLL = 0.05  # seconds
# A crash of the server alone takes nothing that was committed.
CRASH_SAFE = ("-c", "fsync=off")
# Nothing survives a power cut with these, and nothing has to.
FAST = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
_NOTHING = (
    "no PostgreSQL: set POSTGRES_URL, install postgresql (Debian, Ubuntu: as root "
    "'apt-get install postgresql') or start a Docker engine"
)


class PostgresError(Exception):
    """A server cannot be had or did not start; the message is one line for a person."""


@dataclass(frozen=True)
class PostgresAccount:
    """Where a server listens on 127.0.0.1 and who its administrator is."""

    port: int
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def url(self, database: str = "postgres") -> str:
        """Give SQLAlchemy's URL of a database."""
        return f"postgresql+asyncpg://{_USER}:{self.password}@127.0.0.1:{self.port}/{database}"


class PostgresHost(Protocol):
    """A server of our own."""

    account: PostgresAccount

    def start(self) -> None:
        """Create and start it; return when it serves. Raises PostgresError."""

    def discard(self) -> None:
        """End it at once and delete its data."""


@dataclass(frozen=True)
class PostgresPrograms:
    """The folder of `initdb` and `postgres`, and who may run them."""

    folder: Path
    user: str | None  # PostgreSQL refuses root; None: whoever we are

    @classmethod
    def find(cls) -> Self | None:
        """Find the newest version's programs; None when there are none."""
        # Debian keeps them off the PATH, one folder a version.
        debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
        places = os.pathsep.join([*map(str, debian), os.environ.get("PATH", os.defpath)])
        initdb = shutil.which("initdb", path=places)
        if initdb is None or not Path(initdb).with_name("postgres").exists():
            return None
        return cls(Path(initdb).parent, _somebody() if os.geteuid() == 0 else None)


class PostgresServer:
    """A server run from the machine's programs, its data in the system's temporary folder.

    `record` is a folder where a later launcher finds the process and the data to clear.
    """

    def __init__(
        self,
        record: Path,
        account: PostgresAccount,
        programs: PostgresPrograms,
        options: Sequence[str] = FAST,
    ) -> None:
        self.account = account
        self._programs = programs
        self._options = options
        self._record = record
        self._pids = PidFiles(record / "pids")
        self._home = Path()
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Create and start it; return when it serves. Raises PostgresError."""
        self._record.mkdir(parents=True, exist_ok=True)
        # Another user must reach it, which a folder in somebody's home may not allow.
        self._home = Path(tempfile.mkdtemp(prefix="postrider-postgres-"))
        (self._record / "postgres-data").symlink_to(self._home)
        self._create()
        self._serve()

    def restart(self) -> None:
        """End it at once, as a crash does, and let it serve the same data again."""
        self._end()
        self._serve()

    def discard(self) -> None:
        """End it at once and delete its data."""
        self._end()
        shutil.rmtree(self._home, ignore_errors=True)
        (self._record / "postgres-data").unlink(missing_ok=True)

    def _serve(self) -> None:
        with (self._home / "log").open("ab") as log:
            self._child = self._popen(*self._server(), output=log.fileno())
        self._pids.add("postgres", self._child.pid)
        deadline = time.monotonic() + _START
        while not self._ready():
            if time.monotonic() > deadline or self._child.poll() is not None:
                log_text = (self._home / "log").read_text(errors="replace")
                self.discard()
                raise PostgresError(f"PostgreSQL did not start:\n{log_text}")
            time.sleep(_POLL)

    def _end(self) -> None:
        if self._child is None:
            return
        self._child.send_signal(signal.SIGQUIT)  # immediate shutdown
        try:
            self._child.wait(_STOP)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._pids.remove("postgres")
        self._child = None

    def _create(self) -> None:
        password = self._home / "password"
        password.write_text(self.account.password)
        if self._programs.user is not None:
            for path in (self._home, password):
                shutil.chown(path, self._programs.user)
        initdb = (
            self._programs.folder / "initdb",
            f"--pgdata={self._home / 'data'}",
            f"--username={_USER}",
            f"--pwfile={password}",
            "--auth=password",  # SCRAM's rounds would be most of a connection's cost
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        )
        child = self._popen(*initdb, output=subprocess.PIPE)
        said, _ = child.communicate()
        if child.returncode:
            raise PostgresError(f"initdb failed:\n{said.decode(errors='replace')}")

    def _server(self) -> tuple[str | Path, ...]:
        return (
            self._programs.folder / "postgres",
            "-D",
            self._home / "data",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.account.port),
            "-k",
            "",
            *self._options,
        )

    def _popen(self, *command: str | Path, output: int) -> subprocess.Popen[bytes]:
        user = self._programs.user
        group = pwd.getpwnam(user).pw_gid if user else None
        return subprocess.Popen(  # noqa: S603 - programs found on this machine, fixed arguments
            command,
            cwd=self._home,
            env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user,
            group=group,
            extra_groups=[] if user else None,
        )

    def _ready(self) -> bool:
        # The server writes its state on a line of its own there; pg_ctl waits the same way.
        try:
            lines = (self._home / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return any(line.strip() == "ready" for line in lines)


class PostgresContainer:
    """A server in a container, on 127.0.0.1 only, its data in memory."""

    def __init__(self, record: Path, account: PostgresAccount, image: str = IMAGE) -> None:
        self.account = account
        self._image = image
        self._container = docker.Container(f"postrider-postgres-{account.port}", record)

    def start(self) -> None:
        """Create and start it; return when it serves. Raises PostgresError."""
        try:
            self._container.run(self._image, *self._options(), command=("postgres", *FAST))
            self._wait()
        except docker.DockerError as error:
            self.discard()
            raise PostgresError(str(error)) from error

    def discard(self) -> None:
        """End it at once and delete its data."""
        self._container.remove()

    def _options(self) -> list[str]:
        return [
            "--tmpfs=/data",  # the default differs: up to 17 and from 18 on
            "--env=PGDATA=/data/postgres",
            f"--publish=127.0.0.1:{self.account.port}:5432",
            f"--env=POSTGRES_USER={_USER}",
            f"--env=POSTGRES_PASSWORD={self.account.password}",
        ]

    def _wait(self) -> None:
        # By TCP: while it creates the data, the image serves its own socket file only.
        probe = ("exec", self._container.name, "pg_isready", "--quiet", "--host=127.0.0.1")
        deadline = time.monotonic() + _START
        while True:
            try:
                docker.docker(*probe)
            except docker.DockerError:
                if time.monotonic() > deadline or not self._container.runs:
                    raise
                time.sleep(_POLL)
            else:
                return


def private(record: Path, account: PostgresAccount) -> PostgresHost:
    """Give a server of our own, not started yet. Raises PostgresError when there is none."""
    if programs := PostgresPrograms.find():
        return PostgresServer(record, account, programs)
    if docker.answers():
        return PostgresContainer(record, account)
    raise PostgresError(_NOTHING)


def _version(folder: Path) -> float:
    return float(folder.parent.name)


def _somebody() -> str:
    users = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"
