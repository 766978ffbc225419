"""The command line of `ops load`: its bounds, and its ends."""

import os
import signal
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from pathlib import Path

import pytest

from ops.__main__ import main
from ops.load import command
from tests.ops.load.gateway import KEY, Gateway


@pytest.mark.parametrize(
    "words",
    [
        ("events", "--events", "0"),
        ("events", "--events", str(command.MAX_EVENTS + 1)),
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
    """A typing mistake is no load without an end."""
    with pytest.raises(SystemExit) as caught:
        main(["load", *words])

    assert caught.value.code == 2
    assert "usage: ops load" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["events", "mail"])
def test_without_a_stack_it_says_what_is_missing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and no traceback."""
    monkeypatch.setenv("RUN_DIR", str(tmp_path))

    assert main(["load", kind]) == 1
    assert capsys.readouterr().err.endswith("is needed, or a stack that runs: make up\n")


async def load(gateway: Gateway, *words: str, interrupt: bool = False) -> tuple[int | None, str]:
    """Run the command against a gateway as a process; perhaps interrupt it when it sends."""
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
    """The progress goes to the other stream, where a log does not mix with the figures."""
    async with Gateway.serving() as gateway:
        code, told = await load(gateway, "events", "--events", "50", "--domains", "5")

    assert code == 0, told
    assert "the domain table holds exactly what was sent" in told
    assert "sending   [" in told


async def test_an_interrupted_run_tells_what_it_saw() -> None:
    """Ctrl-C ends it in good order, with the exit code that shells know."""
    async with Gateway.serving(refusals=1_000_000) as gateway:
        code, told = await load(gateway, "events", interrupt=True)

    assert code == 130, told
    assert "0 of 100,000 events sent in" in told
    assert "Traceback" not in told
