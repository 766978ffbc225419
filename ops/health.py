"""`python -m ops.health`: the image's health check, for whichever program its container runs."""

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_ANSWER_SECONDS = 4.0
_EVERYWHERE = {"", "0.0.0.0", "::"}  # noqa: S104 -- compared, not bound


def url(modules: Iterable[str], environ: Mapping[str, str]) -> str | None:
    """Return the health URL of the server among some running modules, None without one."""
    for module in modules:
        if module.startswith("services."):
            host = environ.get("HEALTH_HOST", "")
            return f"http://{_reached(host)}:{environ.get('HEALTH_PORT')}/readyz"
        if module == "ops.simulator":
            host = environ.get("MAILBOX_HOST", "")
            return f"http://{_reached(host)}:{environ.get('MAILBOX_PORT') or 8025}/healthz"
    return None


def _reached(host: str) -> str:
    return "127.0.0.1" if host in _EVERYWHERE else host


def running() -> Iterator[str]:
    """Yield the modules that processes of this container run, as in `python -m MODULE`."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text(errors="replace").split("\0")
        except OSError:  # it has ended
            continue
        if "-m" in words[:-1]:
            yield words[words.index("-m") + 1]


def main() -> int:
    """Return 0 if the server here is well, or if there is none; else 1, with the reason."""
    where = url(running(), os.environ)
    try:
        if where:
            urllib.request.urlopen(where, timeout=_ANSWER_SECONDS).close()  # noqa: S310 -- http
    except (OSError, ValueError) as error:  # a URLError is an OSError
        print(f"{where}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
