"""A private PostgreSQL server, run from the machine's programs, for tests, benchmarks and faults.

It trades durability for speed: its data do not survive a power cut.
"""

import os
import pwd
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from ops.process import PidFiles

USER = "postrider"
START_SECONDS = 30.0  # about 1 on an idle machine
# A crash of the server alone takes nothing that was committed.
CRASH_SAFE = ("-c", "fsync=off")
# The primary of a standby: a commit is confirmed when the standby has it too.
REPLICATED = (*CRASH_SAFE, "-c", "synchronous_standby_names=*")
# Nothing survives a power cut with these, and nothing has to.
FAST = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


class PostgresError(Exception):
    """There is no server, or it did not start. The message is for a person."""


@dataclass(frozen=True)
class PostgresAccount:
    """The port of a server on 127.0.0.1, and its administrator's password."""

    port: int
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def url(self, database: str = "postgres", *, standby: int | None = None) -> str:
        """Return the URL of a database, also with the port of a standby, which is named first."""
        hosts = ",".join(f"127.0.0.1:{each}" for each in (standby, self.port) if each is not None)
        return f"postgresql+asyncpg://{USER}:{self.password}@{hosts}/{database}"


@dataclass(frozen=True)
class PostgresPrograms:
    """The folder of `initdb` and `pg_ctl`, and the user to run them."""

    folder: Path
    user: str | None  # PostgreSQL refuses root; None is the current user

    @classmethod
    def find(cls) -> Self | None:
        """Return the programs of the newest version, None when there are none."""
        # Debian keeps them off the PATH, one folder a version.
        debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
        places = os.pathsep.join(map(str, debian))
        initdb = shutil.which("initdb", path=places) or shutil.which("initdb")
        if initdb is None or not Path(initdb).with_name("pg_ctl").exists():
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

    def start(self) -> None:
        """Create and start the server; return when it serves. Raises PostgresError."""
        self._make_home()
        password = self._home / "password"
        password.write_text(self.account.password)
        self._own(password)
        self._run(
            "initdb",
            f"--pgdata={self._home / 'data'}",
            f"--username={USER}",
            f"--pwfile={password}",
            "--auth=password",  # SCRAM's rounds would be most of a connection's cost
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        )
        self._serve()

    def follow(self, primary: PostgresAccount) -> None:
        """Copy a running primary and start as its standby. Raises PostgresError."""
        self._make_home()
        self._run(
            "pg_basebackup",
            f"--dbname=host=127.0.0.1 port={primary.port} user={USER}",
            f"--pgdata={self._home / 'data'}",
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
            PGPASSWORD=primary.password,
        )
        self._serve()

    def promote(self) -> None:
        """Make a standby the primary; return when it takes writes. Raises PostgresError."""
        self._control("promote")

    def restart(self) -> None:
        """End the server at once, as a crash does, and start it again on the same data."""
        self._end()
        self._serve()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to each of its processes."""
        server = psutil.Process(self._pids.running()["postgres"].pid)
        for each in (server, *server.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                each.send_signal(number)

    def discard(self) -> None:
        """End the server at once and delete its data."""
        self._end()
        shutil.rmtree(self._home, ignore_errors=True)
        (self._record / "postgres-data").unlink(missing_ok=True)

    def _make_home(self) -> None:
        self._record.mkdir(parents=True, exist_ok=True)
        # A home directory may be closed to the user who runs the server.
        self._home = Path(tempfile.mkdtemp(prefix="postrider-postgres-"))
        (self._record / "postgres-data").symlink_to(self._home)
        self._own(self._home)

    def _own(self, path: Path) -> None:
        if self._programs.user is not None:
            shutil.chown(path, self._programs.user)

    def _serve(self) -> None:
        options = ["-h", "127.0.0.1", "-p", str(self.account.port), "-k", "", *self._options]
        log, within = self._home / "log", f"--timeout={START_SECONDS:.0f}"
        try:
            self._control("start", f"--log={log}", within, f"--options={shlex.join(options)}")
        except PostgresError as error:
            log_text = log.read_text(errors="replace") if log.exists() else ""
            self.discard()
            raise PostgresError(f"PostgreSQL did not start:\n{error}\n{log_text}") from error
        self._pids.add("postgres", int(self._lock.read_text().splitlines()[0]))

    def _end(self) -> None:
        if self._lock.exists():
            with suppress(PostgresError):  # it has died, and its lock is left
                self._control("stop", "--mode=immediate")
        self._pids.remove("postgres")

    @property
    def _lock(self) -> Path:
        """The file that a running server keeps; its first line is the process id."""
        return self._home / "data" / "postmaster.pid"

    def _control(self, action: str, *arguments: str) -> None:
        self._run("pg_ctl", action, f"--pgdata={self._home / 'data'}", "--wait", *arguments)

    def _run(self, program: str, *arguments: str, **variables: str) -> None:
        """Run a program of PostgreSQL to its end. Raises PostgresError with its output."""
        user = self._programs.user
        done = subprocess.run(  # noqa: S603 - programs found on this machine, fixed arguments
            (self._programs.folder / program, *arguments),
            cwd=self._home,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            check=False,
        )
        if done.returncode:
            raise PostgresError(f"{program} failed:\n{done.stdout.decode(errors='replace')}")


def _version(folder: Path) -> float:
    return float(folder.parent.name)


def _unprivileged_user() -> str:
    users = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"
