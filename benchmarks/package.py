"""The programs of Debian's package postfix: the machine's, or unpacked here without installing."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import RUNS

UNPACKED = RUNS / "postfix"
_FETCH_SECONDS = 60.0
_CHECK_SECONDS = 5.0
_CANNOT_LOAD = 127  # what the dynamic loader exits with when a library is missing


@dataclass(frozen=True, slots=True)
class Programs:
    """Where they are: `root` is that of the system, or where the package was unpacked."""

    root: Path

    @property
    def libraries(self) -> Path:
        """The directory of the libraries that all of them load."""
        return self.root / "usr" / "lib" / "postfix"

    @property
    def daemons(self) -> Path:
        """The directory of what Postfix itself starts."""
        return self.libraries / "sbin"

    @property
    def commands(self) -> Path:
        """The directory of what people start."""
        return self.root / "usr" / "sbin"

    @property
    def environment(self) -> Mapping[str, str]:
        """What they need to find their libraries."""
        return {"LD_LIBRARY_PATH": str(self.libraries)} if self.root == UNPACKED else {}

    def there(self) -> bool:
        """Tell whether they are there and run."""
        tried = self.commands / "smtp-sink"
        return tried.exists() and _runs(tried, self.environment)


def there() -> Programs | None:
    """Find the programs without fetching them: the machine's before those unpacked earlier.

    It takes a second for each place: that long they stay when they are not told what to do.
    """
    return next((each for each in map(Programs, (Path("/"), UNPACKED)) if each.there()), None)


def fetched() -> Programs | None:
    """Find the programs; if there are none fetch the package and unpack it. None: it failed."""
    found = there()
    if found is None:
        _unpack()
        found = there()
    return found


def _unpack() -> None:
    if UNPACKED.exists() or not (shutil.which("apt-get") and shutil.which("dpkg")):
        return
    print("fetching Debian's package postfix; nothing is installed")
    packages = RUNS / "package"
    packages.mkdir(parents=True, exist_ok=True)
    try:
        _run(["apt-get", "-qq", "download", "postfix"], packages)
        for package in packages.glob("*.deb"):
            _run(["dpkg", "-x", str(package), str(UNPACKED)], packages)
    except (OSError, subprocess.SubprocessError):
        print("that failed")
    finally:
        shutil.rmtree(packages, ignore_errors=True)


def _run(command: Sequence[str], where: Path) -> None:
    subprocess.run(  # noqa: S603 -- fixed programs
        command, cwd=where, check=True, capture_output=True, timeout=_FETCH_SECONDS
    )


def _runs(program: Path, environment: Mapping[str, str]) -> bool:
    try:
        tried = subprocess.run(  # noqa: S603 -- the program that was found; it tells its usage
            [program], env=environment, capture_output=True, check=False, timeout=_CHECK_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return tried.returncode != _CANNOT_LOAD
