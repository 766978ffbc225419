"""A bash in which the blocks of a page are run, and how its output is compared with a page's."""

import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Counts what the servers answer; curl itself is content with any answer.
_CURL = """curl() { command curl -w '%{stderr}%{http_code}\\n' "$@" 2>>"$STATUSES"; }"""

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_TIME = r"\d{4}-\d\d-\d\d[T ]?\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)"
_HEX = r"\b[0-9a-f]{32}\b"
_NUMBER = r"\d[\d.,:]*"
_ANY = "…"
_VARIES = re.compile(
    f"(?P<uuid>{_UUID})|(?P<time>{_TIME})|(?P<hex>{_HEX})|(?P<any>{_ANY})|(?P<number>{_NUMBER})"
)
_FORMS = {"uuid": _UUID, "time": _TIME, "hex": _HEX, "any": ".*?", "number": _NUMBER}


@dataclass(frozen=True, slots=True)
class Result:
    """The output of a block, its exit code, and the statuses of its HTTP answers."""

    output: str
    code: int
    statuses: tuple[int, ...]


class Shell:
    """Runs blocks one after the other; a variable that one sets is there in the next."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._statuses = folder / "statuses"
        self._mark = secrets.token_hex(8)

    def run(self, commands: str) -> Result:
        """Run a block to its end; it reads nothing."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._statuses.write_text("")
        end = f"printf '\\n%s %s\\n' {self._mark} $?"
        self._process.stdin.write(f"{{\n{commands}\n}} </dev/null\n{end}\n")
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            if line.startswith(self._mark):
                break
            lines.append(line)
        else:
            raise AssertionError(f"the shell ended in {commands!r}")
        statuses = tuple(map(int, self._statuses.read_text().split()))
        return Result("".join(lines), int(line.split()[1]), statuses)


@contextmanager
def shell(folder: Path, environ: Mapping[str, str]) -> Iterator[Shell]:
    """Run a bash in a folder for the length of the block; it is killed in any case."""
    with subprocess.Popen(
        ("/bin/bash", "--norc"),
        cwd=folder,
        env={**environ, "STATUSES": str(folder / "statuses")},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            opened = Shell(process, folder)
            opened.run(_CURL)
            yield opened
        finally:
            process.kill()


def is_like(output: str, shown: str, *, numbers: bool) -> bool:
    """Return whether an output is the one that a page shows.

    Ids, times and `…` stand for any, and so do numbers if `numbers`; blanks and line ends do not
    count, since a page breaks long lines.
    """
    pattern = "".join(_pattern(_squeezed(shown), numbers=numbers))
    return re.fullmatch(pattern, _squeezed(output), re.DOTALL) is not None


def _pattern(shown: str, *, numbers: bool) -> Iterator[str]:
    end = 0
    for match in _VARIES.finditer(shown):
        kind = str(match.lastgroup)
        varies = kind != "number" or numbers
        yield re.escape(shown[end : match.start()])
        yield _FORMS[kind] if varies else re.escape(match[0])
        end = match.end()
    yield re.escape(shown[end:])


def _squeezed(text: str) -> str:
    return "".join(text.split())
