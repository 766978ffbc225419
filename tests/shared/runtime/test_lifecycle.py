"""The start and the end of a service: a real process, real signals, exit code and output."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ops import ports
from shared.errors import DatabaseAway
from shared.runtime import lifecycle
from tests.processes import started
from tests.waiting import PATIENCE_SECONDS

# The tiny service, as a user to whom no file belongs.
NOBODYS = """
import os
os.geteuid = lambda: 1 << 20
from shared.runtime import lifecycle
from tests.shared import tiny
lifecycle.run(tiny.run, tiny.TinySettings, os.environ)
"""
GOOD = {"AMQP_URL": "amqp://tiny:hunter2@127.0.0.1:1/"}


@asynccontextmanager
async def tiny(*flags: str, **environ: str) -> AsyncIterator[Process]:
    """Run the tiny service with nothing but these flags and variables."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.shared.tiny", *flags),
        env=environ,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: Process, line: str) -> None:
    """Wait until the service prints `line` and nothing else."""
    assert process.stdout is not None

    assert (await process.stdout.readline()).decode().strip() == line


async def ended(process: Process, *, line: str = "") -> tuple[int | None, list[str], str]:
    """Send a last line; return the exit code, the output and the errors."""
    out, errors = await process.communicate(f"{line}\n".encode())
    return process.returncode, out.decode().splitlines(), errors.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_a_signal_lets_it_finish(number: signal.Signals) -> None:
    """SIGTERM finishes the work in flight, closes all, and exits with 0."""
    async with tiny(**GOOD) as process:
        await said(process, "opening")
        await said(process, "open")
        process.send_signal(number)
        await said(process, "draining")

        code, lines, errors = await ended(process, line="the work in flight")

    assert (code, errors) == (0, "")
    assert lines[:2] == ["the work in flight", "closed"]
    assert json.loads(lines[2])["event"] == "stopped"


async def test_a_second_signal_ends_it_at_once() -> None:
    """A second signal drops the work in flight, logs it, and closes."""
    async with tiny(**GOOD, TINY_ACT="stay") as process:
        await said(process, "opening")
        await said(process, "open")
        process.send_signal(signal.SIGTERM)
        await said(process, "draining")
        process.send_signal(signal.SIGTERM)

        code, lines, errors = await ended(process)

    assert (code, errors) == (0, "")
    assert json.loads(lines[0])["event"] == "second signal: ending without the work in flight"
    assert lines[1] == "closed"
    assert json.loads(lines[2])["event"] == "stopped"


async def test_a_third_signal_does_not_interrupt_the_closing() -> None:
    """A third signal does not interrupt the closing."""
    async with tiny(**GOOD, TINY_ACT="stay", TINY_CLOSES="slowly") as process:
        await said(process, "opening")
        await said(process, "open")
        process.send_signal(signal.SIGTERM)
        await said(process, "draining")
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        await process.stdout.readline()
        await said(process, "closing")
        process.send_signal(signal.SIGINT)

        code, lines, _ = await ended(process, line="closed well")

    assert (code, lines[:2]) == (0, ["closed well", "closed"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_a_signal_ends_what_is_still_opening(number: signal.Signals) -> None:
    """A service that waits for its broker can be stopped, and closes all that it opened."""
    async with tiny(**GOOD, TINY_ACT="hang") as process:
        await said(process, "opening")
        process.send_signal(number)

        code, lines, errors = await ended(process)

    assert (code, errors) == (0, "")
    assert lines[0] == "closed"
    assert json.loads(lines[1])["event"] == "stopped"


async def test_a_service_may_end_by_itself() -> None:
    """A service that ends by itself exits with 0."""
    async with tiny(**GOOD, TINY_ACT="end") as process:
        code, lines, errors = await ended(process)

    assert (code, errors, lines[:2]) == (0, "", ["opening", "closed"])


async def test_wrong_settings_are_a_line_each() -> None:
    """Wrong settings are a line each, without values, and the exit code is 2."""
    async with tiny(TINY_ACT="hunter2", HEALTH_PORT="hunter2") as process:
        code, lines, errors = await ended(process)

    assert code == lifecycle.EXIT_USAGE == 2
    assert lines == []
    assert errors.splitlines() == [
        "tiny: wrong settings",
        "AMQP_URL: is required: amqp://user:password@host/vhost of RabbitMQ",
        "HEALTH_PORT: must be a whole number",
        "TINY_ACT: must be 'wait', 'stay', 'hang', 'connect', 'newer', 'fail' or 'end'",
    ]


async def test_a_warning_of_the_settings_is_logged(tmp_path: Path) -> None:
    """A secret that all users of a container can read is a warning; the service starts."""
    (tmp_path / "url").write_text(GOOD["AMQP_URL"])
    (tmp_path / "url").chmod(0o644)  # whatever the umask is
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        started(
            *("-c", NOBODYS),
            env={"AMQP_URL_FILE": f"{tmp_path}/url", "TINY_ACT": "end"},
            stdout=PIPE,
        ) as process,
    ):
        out, _ = await process.communicate()

    line, *rest = out.decode().splitlines()
    assert (process.returncode, rest[:2]) == (0, ["opening", "closed"])
    assert json.loads(line)["level"] == "warning"
    assert json.loads(line)["reason"] == f"all users can read {tmp_path}/url (mode 0644)"


async def test_a_misspelled_variable_stops_the_start() -> None:
    """An unknown variable of the service stops it; variables of Kubernetes do not."""
    kubernetes = {"TINY_SERVICE_HOST": "10.0.0.1", "TINY_PORT": "tcp://10.0.0.1:80"}
    async with tiny(**GOOD, **kubernetes, TINY_ATC="end") as process:
        code, _, errors = await ended(process)

    assert code == lifecycle.EXIT_USAGE
    assert errors == "tiny: wrong settings\nTINY_ATC: there is no such setting; perhaps TINY_ACT?\n"


async def test_help_needs_nothing() -> None:
    """`--help` works without any setting."""
    async with tiny("--help") as process:
        code, lines, errors = await ended(process)

    assert (code, errors) == (0, "")
    assert any("--tiny-act {wait,stay,hang,connect,newer,fail,end}" in line for line in lines)
    assert "opening" not in lines


async def test_flags_reach_the_service() -> None:
    """A flag overrides the environment."""
    async with tiny("--tiny-act", "end", **GOOD, TINY_ACT="hang") as process:
        code, lines, _ = await ended(process)

    assert (code, lines[:2]) == (0, ["opening", "closed"])


async def test_a_broker_that_is_away_is_one_line() -> None:
    """A broker that is away is reported without its password, and the exit code is 1."""
    (port,) = ports.unused(1)
    url = f"amqp://tiny:hunter2@127.0.0.1:{port}/"
    async with tiny(AMQP_URL=url, TINY_ACT="connect", LOG_LEVEL="ERROR") as process:
        code, lines, errors = await ended(process)

    assert (code, errors) == (lifecycle.EXIT_FAILURE, "") == (1, "")
    (line,) = (line for line in lines if line not in {"opening", "closed"})
    assert json.loads(line)["event"] == "gave up"
    assert f"127.0.0.1:{port}" in line
    assert "hunter2" not in line


async def test_newer_tables_are_one_line() -> None:
    """A service before its tables ends with one line, and with the code that no restart changes."""
    async with tiny(**GOOD, TINY_ACT="newer") as process:
        code, lines, errors = await ended(process)

    assert (code, errors) == (lifecycle.EXIT_USAGE, "")
    (line,) = (line for line in lines if line not in {"opening", "closed"})
    assert json.loads(line)["reason"] == "its tables are at version 0002"


async def test_a_defect_is_logged_with_its_traceback() -> None:
    """An unexpected error has its traceback."""
    async with tiny(**GOOD, TINY_ACT="fail") as process:
        code, lines, errors = await ended(process)

    assert code == 1
    assert "closed" in lines
    assert "RuntimeError: a defect" in errors


class Work:
    """Counts its runs; the first ones may fail."""

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
        self.turns = 0
        self._failures = failures
        self._error = error or ConnectionError("the database is away")
        self._done = asyncio.Condition()

    async def __call__(self) -> None:
        """Run once."""
        self.turns += 1
        async with self._done:
            self._done.notify_all()
        if self.turns <= self._failures:
            raise self._error

    async def reached(self, turns: int) -> None:
        """Wait for a number of runs."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._done:
            await self._done.wait_for(lambda: self.turns >= turns)


async def test_it_begins_at_once() -> None:
    """The first run comes at once."""
    work = Work()
    async with lifecycle.repeating(work, 3600, "test"):
        await work.reached(1)


async def test_it_comes_again_after_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """A run that fails is logged, and the next one comes."""
    work = Work(failures=2)
    async with lifecycle.repeating(work, 0.001, "test"):
        await work.reached(4)

    assert "the database is away" in capsys.readouterr().out


async def test_a_database_that_is_away_is_one_line() -> None:
    """Work that comes twice a second does not fill a disk with tracebacks."""
    work = Work(failures=2, error=DatabaseAway("the codes cannot be reached"))
    with capture_logs() as logs:
        async with lifecycle.repeating(work, 0.001, "test"):
            await work.reached(4)

    assert [each["reason"] for each in logs] == ["the codes cannot be reached"] * 2
    assert not any("exc_info" in each for each in logs)


async def test_it_ends_with_the_block() -> None:
    """Leaving the block cancels the work, even in the middle of a run."""
    begun = asyncio.Event()

    async def never_ends() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        lifecycle.repeating(never_ends, 1, "endless work"),
    ):
        await begun.wait()

    assert "endless work" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_it_ends_although_the_work_loses_its_cancellation() -> None:
    """A library that answers a cancellation by a result does not keep the service from ending."""
    begun = asyncio.Event()

    async def loses_it() -> None:
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE_SECONDS), lifecycle.repeating(loses_it, 3600, "work"):
        await begun.wait()
