"""Run the simulator: `python -m ops.simulator`, with settings by flag or environment."""

import argparse
import asyncio
import logging
import os
import signal
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import uvloop

from ops.simulator.simulator import PortTakenError, Simulator, SimulatorSettings
from ops.simulator.smtp import Credentials

USAGE_ERROR: Final = 2
_HIGHEST_PORT: Final = 65_535  # the TCP header has 16 bits


def _port(text: str) -> int:
    if not text.isdecimal() or not int(text) <= _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {_HIGHEST_PORT}")
    return int(text)


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not host or not colon or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not host:port")
    return text


# Name, default, type, help; the environment variable is the name in capitals.
_FLAGS: Final[Sequence[tuple[str, str | None, Callable[[str], object], str]]] = (
    ("smtp-host", "127.0.0.1", str, "the address for mail"),
    ("smtp-port", "2525", _port, "its port, 0 for any that is free"),
    ("smtp-published", None, _address, "host:port that the page shows, if it differs"),
    ("smtp-tls-port", None, _port, "a port with TLS from the start"),
    ("smtp-tls-certificate", None, Path, "a PEM file; STARTTLS is then offered"),
    ("smtp-tls-key", None, Path, "a PEM file"),
    ("smtp-login", None, str, "the only user:password that may log in"),
    ("mailbox-host", "127.0.0.1", str, "the address of the page and the API"),
    ("mailbox-port", "8025", _port, "its port, 0 for any that is free"),
    ("mailbox-hosts", "", _names, "more host names of the page, by commas"),
    ("mailbox-data", None, Path, "a directory for the mails"),
)


def main() -> int:
    """Run the simulator with the flags of the command line."""
    parser = argparse.ArgumentParser(prog="python -m ops.simulator", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args())


def add_arguments(parser: argparse.ArgumentParser, environ: Mapping[str, str] = os.environ) -> None:
    """Add the flags; the default of each is its variable in `environ`."""
    for name, default, kind, text in _FLAGS:
        variable = name.upper().replace("-", "_")
        parser.add_argument(
            f"--{name}",
            default=environ.get(variable) or default,
            type=kind,
            help=f"{text} ({variable})",
        )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; return 2 and print one line if it cannot start."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    # aiosmtpd warns of each unknown command, which is the client's error.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    try:
        uvloop.run(_run(settings(arguments)))
    except (PortTakenError, OSError, ValueError) as error:
        print(f"simulator: {error}", file=sys.stderr)
        return USAGE_ERROR
    return 0


def settings(given: argparse.Namespace) -> SimulatorSettings:
    """Return the settings of the flags. Raises ValueError or OSError if they cannot be used."""
    if bool(given.smtp_tls_certificate) != bool(given.smtp_tls_key):
        raise ValueError("TLS needs both a certificate and a key")
    if given.smtp_tls_port is not None and not given.smtp_tls_key:
        raise ValueError("the TLS port needs a certificate and a key")
    return SimulatorSettings(
        smtp_host=given.smtp_host,
        smtp_port=given.smtp_port,
        tls_port=given.smtp_tls_port,
        web_host=given.mailbox_host,
        web_port=given.mailbox_port,
        tls=_tls(given.smtp_tls_certificate, given.smtp_tls_key),
        credentials=_credentials(given.smtp_login),
        data=given.mailbox_data,
        hosts=given.mailbox_hosts,
        published=given.smtp_published,
    )


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None or key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # a file that is missing or no PEM
        raise ValueError(f"{certificate}, {key}: {error}") from error
    return context


def _credentials(login: str | None) -> Credentials | None:
    if login is None:
        return None
    user, colon, password = login.partition(":")
    if not user or not colon:
        raise ValueError("the login must be user:password")
    return Credentials(user, password)


async def _run(wanted: SimulatorSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Simulator(wanted) as simulator:
        print(f"SMTP on {wanted.smtp_host}:{simulator.smtp_port}", flush=True)
        print(f"mailbox at {simulator.web_url}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
