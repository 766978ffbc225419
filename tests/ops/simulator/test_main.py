"""The simulator as a process."""

import argparse
import asyncio
import os
import re
import signal
import smtplib
import socket
import ssl
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from ops.simulator.__main__ import add_arguments, settings
from ops.simulator.mailbox import MailArchive, Mailbox
from ops.simulator.simulator import SimulatorSettings
from ops.simulator.smtp import Credentials
from tests.waiting import PATIENCE_SECONDS

ANY_PORTS = {"SMTP_PORT": "0", "MAILBOX_PORT": "0"}


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """Write a certificate and its key; return the variables that name them."""
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    return {"SMTP_TLS_CERTIFICATE": str(certificate), "SMTP_TLS_KEY": str(key)}


@asynccontextmanager
async def process(**environ: str) -> AsyncIterator[Process]:
    """Start the simulator; kill it at the end if it still runs."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ops.simulator",
        env={**os.environ, **environ},
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):  # Python starts slowly on a busy machine
            yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def said(started: Process) -> str:
    """Return the next line of its output."""
    assert started.stdout is not None
    return (await started.stdout.readline()).decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals(number: signal.Signals, tmp_path: Path) -> None:
    """It prints its addresses, receives mail, and ends with 0 at a signal, with no error."""
    async with process(**ANY_PORTS, MAILBOX_DATA=str(tmp_path)) as started:
        port = int(re.findall(r"\d+", await said(started))[-1])
        assert "http://127.0.0.1:" in await said(started)
        await asyncio.to_thread(send, port)
        started.send_signal(number)
        _, errors = await started.communicate()

    assert (started.returncode, errors) == (0, b"")
    assert len(Mailbox(MailArchive(tmp_path))) == 1


def send(port: int, trusting: ssl.SSLContext | None = None) -> None:
    """Send a mail with the standard library, as users do."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="x") as smtp:
        if trusting:
            smtp.starttls(context=trusting)
        smtp.sendmail("a@x.example", ["b@x.example"], "Subject: Hello\n\nHello.")


async def test_starttls(files: dict[str, str], trusting: ssl.SSLContext) -> None:
    """With a certificate it accepts STARTTLS."""
    async with process(**ANY_PORTS, **files) as started:
        port = int(re.findall(r"\d+", await said(started))[-1])
        await asyncio.to_thread(send, port, trusting)


@pytest.mark.parametrize("name", ["SMTP_PORT", "MAILBOX_PORT"])
async def test_taken_port(name: str) -> None:
    """A taken port is an error in one line, with exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with process(**{**ANY_PORTS, name: port}) as started:
            _, errors = await started.communicate()

    assert started.returncode == 2
    assert errors.decode().count("\n") == 1
    assert f"127.0.0.1:{port}: the port is taken" in errors.decode()


async def test_bad_certificate() -> None:
    """A missing certificate is an error in one line, with exit code 2."""
    none = {"SMTP_TLS_CERTIFICATE": "/no/such.pem", "SMTP_TLS_KEY": "/no/such.key"}
    async with process(**ANY_PORTS, **none) as started:
        _, errors = await started.communicate()

    assert started.returncode == 2
    assert errors.decode().startswith("simulator: /no/such.pem")
    assert errors.decode().count("\n") == 1


def parsed(words: Sequence[str], environ: Mapping[str, str]) -> SimulatorSettings:
    """Return the settings of a command line and an environment."""
    parser = argparse.ArgumentParser()
    add_arguments(parser, environ)
    return settings(parser.parse_args(words))


def test_defaults() -> None:
    """The default ports are the documented ones."""
    found = parsed([], {})

    assert (found.smtp_host, found.smtp_port) == ("127.0.0.1", 2525)
    assert (found.web_host, found.web_port) == ("127.0.0.1", 8025)


def test_flags_first(files: dict[str, str]) -> None:
    """A flag takes precedence over the environment."""
    environ = {
        "SMTP_PORT": "1",
        "MAILBOX_PORT": "2",
        "SMTP_TLS_PORT": "3",
        **files,
        "SMTP_LOGIN": "anna:p:w",
        "SMTP_PUBLISHED": "localhost:2525",
        "MAILBOX_HOSTS": "simulator, mail.example",
    }
    found = parsed(["--smtp-port", "9"], environ)

    assert (found.smtp_port, found.web_port, found.tls_port) == (9, 2, 3)
    assert found.published == "localhost:2525"
    assert found.hosts == {"simulator", "mail.example"}
    assert found.tls is not None
    assert found.credentials == Credentials("anna", "p:w")


@pytest.mark.parametrize(
    "environ",
    [
        {"SMTP_LOGIN": "anna"},
        {"SMTP_TLS_PORT": "2465"},
        {"SMTP_TLS_KEY": "key.pem"},
    ],
)
def test_senseless(environ: dict[str, str]) -> None:
    """Settings that cannot work are refused."""
    with pytest.raises(ValueError, match=r"login|TLS"):
        parsed([], environ)
