"""`python -m ops.health`: the image's health check, for any program that its container runs."""

import os
import sys
import urllib.request
from collections.abc import Iterable, Iterator, Mapping

import psutil

_TIMEOUT_SECONDS = 4.0
_ANY_ADDRESS = {"", "0.0.0.0", "::"}  # noqa: S104 -- compared, not bound


def url(modules: Iterable[str], environ: Mapping[str, str]) -> str | None:
    """Return the health URL of the server among some running modules, None without one."""
    for module in modules:
        if module.startswith("services."):
            return f"http://{_host(environ, 'HEALTH_HOST')}:{environ.get('HEALTH_PORT')}/readyz"
        if module == "ops.simulator":
            port = environ.get("MAILBOX_PORT") or 8025
            return f"http://{_host(environ, 'MAILBOX_HOST')}:{port}/healthz"
    return None


def _host(environ: Mapping[str, str], variable: str) -> str:
    host = environ.get(variable, "")
    return "127.0.0.1" if host in _ANY_ADDRESS else host


def running() -> Iterator[str]:
    """Yield the modules that processes of this container run by `python -m MODULE`."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or ()
        if "-m" in words[:-1]:
            yield words[words.index("-m") + 1]


def main() -> int:
    """Return 0 if the server is ready or there is none; else 1, and print the reason."""
    address = url(running(), os.environ)
    try:
        if address:
            urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS).close()  # noqa: S310 -- http
    except (OSError, ValueError) as error:  # a URLError is an OSError
        print(f"{address}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
