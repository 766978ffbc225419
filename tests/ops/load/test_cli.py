"""The command line of `ops load`: its target, its bounds, its exit codes."""

import argparse
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from pathlib import Path

import pytest

from ops.__main__ import main
from ops.load import cli
from ops.load.cli import LoadTarget
from ops.load.http import LoadError
from shared.errors import ConfigError
from tests.ops.load.gateway import KEY, Gateway

RECORD = {
    "gateway_url": "http://127.0.0.1:1",
    "mailbox_url": "http://127.0.0.1:2",
    "client_key": "k",
    "amqp_url": "amqp://u:p@127.0.0.1:3/",
    "management_url": None,
}


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    """Return a run directory with the record of a running stack."""
    (tmp_path / "stack.json").write_text(json.dumps(RECORD))
    return str(tmp_path)


def find(environ: dict[str, str], *words: str) -> LoadTarget:
    """Return the target of a command line."""
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.find_target(parser.parse_args(["events", *words]), environ)


def test_the_running_stack_is_the_target(run_dir: str) -> None:
    """The running stack is used when no address is given."""
    found = find({"RUN_DIR": run_dir})

    assert found == LoadTarget(
        **{name: str(RECORD[name]) for name in LoadTarget.__dataclass_fields__}
    )


def test_what_is_named_goes_over_it(run_dir: str) -> None:
    """Flags and variables take precedence over the running stack."""
    environ = {"RUN_DIR": run_dir, "CLIENT_KEY": "other", "AMQP_URL": "amqp://localhost/"}

    found = find(environ, "--gateway-url", "http://[::1]:9")

    assert (found.gateway_url, found.client_key) == ("http://[::1]:9", "other")
    assert (found.mailbox_url, found.amqp_url) == (RECORD["mailbox_url"], "amqp://localhost/")


@pytest.mark.parametrize(
    "host", ["mail.example", "10.0.0.1", "localhost.example", "192.0.2.1", "127.0.0.1.example"]
)
def test_another_machine_has_to_be_meant(run_dir: str, host: str) -> None:
    """Another machine needs `--remote`."""
    words = ("--gateway-url", f"http://{host}/")

    with pytest.raises(LoadError, match=f"gateway_url: {host} is not this machine; --remote"):
        find({"RUN_DIR": run_dir}, *words)
    assert find({"RUN_DIR": run_dir}, *words, "--remote").url("gateway_url").host == host


def test_a_broker_elsewhere_has_to_be_meant_too(run_dir: str) -> None:
    """A broker on another machine needs `--remote`, and the message hides its password."""
    with pytest.raises(LoadError) as caught:
        find({"RUN_DIR": run_dir, "AMQP_URL": "amqp://u:hunter2@mail.example/"})

    assert "amqp_url: mail.example is not this machine" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gateway_url", "--gateway-url is needed, or a stack that runs: make up"),
        ("client_key", "CLIENT_KEY is needed, or a stack that runs: make up"),
    ],
)
def test_without_a_stack_what_is_missing_is_reported(tmp_path: Path, name: str, told: str) -> None:
    """The error names the missing flag or variable."""
    found = find({"RUN_DIR": str(tmp_path)})

    with pytest.raises(LoadError, match=told):
        found.text(name)


def test_no_secret_is_in_its_text(run_dir: str) -> None:
    """The repr of a target shows no key and no password."""
    text = repr(find({"RUN_DIR": run_dir}))

    assert "u:p@" not in text
    assert "client_key" not in text


def test_addresses_that_are_none_are_reported_at_once(run_dir: str) -> None:
    """Each wrong address is reported with its flag, variable or file."""
    (Path(run_dir) / "stack.json").write_text('{"mailbox_url": "127.0.0.1"}')

    with pytest.raises(ConfigError) as caught:
        find({"RUN_DIR": run_dir, "AMQP_URL": "hunter2"}, "--gateway-url", "notaurl")

    assert str(caught.value).splitlines() == [
        "--gateway-url: must begin with http:// or https://",
        "stack.json: mailbox_url: must begin with http:// or https://",
        "AMQP_URL: must begin with amqp:// or amqps://",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("events", "--events", "0"),
        ("events", "--events", str(cli.MAX_EVENTS + 1)),
        ("events", "--domains", "x"),
        ("events", "--batch", "1001"),
        ("events", "--bounced", "-1"),
        ("mail", "--mails", "10001"),
        ("mail", "--concurrency", "1001"),
        ("mail", "--category", "spam"),
        ("mail", "--via", "smtp"),
        (),
    ],
    ids=" ".join,
)
def test_bounds_are_kept(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """A number out of its bounds is refused."""
    with pytest.raises(SystemExit) as caught:
        main(["load", *words])

    assert caught.value.code == 2
    assert "usage: ops load" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["events", "mail"])
def test_without_a_stack_it_says_what_is_missing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error is one line, and no traceback."""
    monkeypatch.setenv("RUN_DIR", str(tmp_path))

    assert main(["load", kind]) == 1
    assert capsys.readouterr().err.endswith("is needed, or a stack that runs: make up\n")


async def load(gateway: Gateway, *words: str, interrupt: bool = False) -> tuple[int | None, str]:
    """Run the command against a gateway as a process, and perhaps interrupt it."""
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "ops", "load", *words, "--gateway-url", str(gateway.url)),
        env={**os.environ, "CLIENT_KEY": KEY, "RUN_DIR": "/nowhere"},
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        if interrupt:
            await gateway.busy.wait()
            process.send_signal(signal.SIGINT)
        out, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode() + errors.decode()


async def test_an_exact_run_is_a_success() -> None:
    """An exact run returns 0, and its progress is not on standard output."""
    async with Gateway.serving() as gateway:
        code, output = await load(gateway, "events", "--events", "50", "--domains", "5")

    assert code == 0, output
    assert "the domain table holds exactly what was sent" in output
    assert "sending   [" in output


async def test_an_interrupted_run_tells_what_it_saw() -> None:
    """Ctrl-C ends a run in good order, with the exit code 130."""
    async with Gateway.serving(refusals=1_000_000) as gateway:
        code, output = await load(gateway, "events", interrupt=True)

    assert code == 130, output
    assert "0 of 100,000 events sent in" in output
    assert "Traceback" not in output
