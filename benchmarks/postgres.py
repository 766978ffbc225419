"""A private PostgreSQL server for benchmarks and tests, run from the machine's programs.

It trades durability for speed: its data do not survive a power cut.
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
from typing import Self

from ops.process import PidFiles

USER = "postrider"
START_SECONDS = 30.0  # about 1 on an idle machine
_STOP_SECONDS = 5.0
POLL_SECONDS = 0.05
# A crash of the server alone takes nothing that was committed.
CRASH_SAFE = ("-c", "fsync=off")
# Nothing survives a power cut with these, and nothing has to.
FAST = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


class PostgresError(Exception):
    """There is no server, or it did not start. The message is for a person."""


@dataclass(frozen=True)
class PostgresAccount:
    """The port of a server on 127.0.0.1, and its administrator's password."""

    port: int
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def url(self, database: str = "postgres") -> str:
        """Return SQLAlchemy's URL of a database."""
        return f"postgresql+asyncpg://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"


@dataclass(frozen=True)
class PostgresPrograms:
    """The folder of `initdb` and `postgres`, and the user to run them."""

    folder: Path
    user: str | None  # PostgreSQL refuses root; None is the current user

    @classmethod
    def find(cls) -> Self | None:
        """Return the programs of the newest version, None when there are none."""
        # Debian keeps them off the PATH, one folder a version.
        debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
        places = os.pathsep.join(map(str, debian))
        initdb = shutil.which("initdb", path=places) or shutil.which("initdb")
        if initdb is None or not Path(initdb).with_name("postgres").exists():
            return None
        return cls(Path(initdb).parent, _unprivileged_user() if os.geteuid() == 0 else None)


class PostgresServer:
    """A server run from the machine's programs, its data in the system's temporary folder.

    `record` is a folder in which a later launcher finds the process and the data to remove.
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
        """Create and start the server; return when it serves. Raises PostgresError."""
        self._record.mkdir(parents=True, exist_ok=True)
        # A home directory may be closed to the user who runs the server.
        self._home = Path(tempfile.mkdtemp(prefix="postrider-postgres-"))
        (self._record / "postgres-data").symlink_to(self._home)
        self._create()
        self._serve()

    def restart(self) -> None:
        """End the server at once, as a crash does, and start it again on the same data."""
        self._end()
        self._serve()

    def discard(self) -> None:
        """End the server at once and delete its data."""
        self._end()
        shutil.rmtree(self._home, ignore_errors=True)
        (self._record / "postgres-data").unlink(missing_ok=True)

    def _serve(self) -> None:
        with (self._home / "log").open("ab") as log:
            self._child = self._popen(*self._server(), output=log.fileno())
        self._pids.add("postgres", self._child.pid)
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if time.monotonic() > deadline or self._child.poll() is not None:
                log_text = (self._home / "log").read_text(errors="replace")
                self.discard()
                raise PostgresError(f"PostgreSQL did not start:\n{log_text}")
            time.sleep(POLL_SECONDS)

    def _end(self) -> None:
        if self._child is None:
            return
        self._child.send_signal(signal.SIGQUIT)  # immediate shutdown
        try:
            self._child.wait(_STOP_SECONDS)
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
            f"--username={USER}",
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
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user,
            group=group,
            extra_groups=[] if user else None,
        )

    def _ready(self) -> bool:
        # One line of this file is the state of the server; pg_ctl reads it as well.
        try:
            lines = (self._home / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return any(line.strip() == "ready" for line in lines)


def _version(folder: Path) -> float:
    return float(folder.parent.name)


def _unprivileged_user() -> str:
    users = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"
