"""A process of the stack: its output, its restarts, its end."""

import asyncio
import io
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ops import ports
from ops.process import PidFiles, ProcessRecord
from ops.stack.child import Child, ServiceLogs, ServiceProgram
from ops.stack.settings import StackError
from tests.waiting import PATIENCE_SECONDS, until

_SERVE = """
import http.server, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
print("serving", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""
_BUSY = (
    """
import os, signal
told = []
def tell(*_):
    told.append(1)
    os.write(1, b"told %d\\n" % len(told))
    if len(told) == 2:
        os._exit(0)
signal.signal(15, tell)
"""
    + _SERVE
)
_DEAF = "import signal; signal.signal(15, signal.SIG_IGN);" + _SERVE


class _Closed(io.StringIO):
    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_terminal_that_goes_away_costs_nothing_but_itself(tmp_path: Path) -> None:
    """The files are written after the terminal has closed."""
    logs = ServiceLogs(tmp_path, _Closed())
    logs.write("sender", "one")
    logs.write("sender", "two")
    logs.close()

    assert (tmp_path / "sender.log").read_text() == "one\ntwo\n"
    assert logs.tail("sender") == "  one\n  two"


class Bench:
    """A child on a port of its own, with its output."""

    def __init__(self, directory: Path, code: str) -> None:
        port = ports.unused(1)[0]
        self.terminal = io.StringIO()
        self.logs = ServiceLogs(directory / "logs", self.terminal)
        self.pids = PidFiles(directory / "pids")
        self.changed = asyncio.Event()
        program = ServiceProgram(
            "tried", (sys.executable, "-c", code, str(port)), {}, f"http://127.0.0.1:{port}/"
        )
        self.child = Child(program, self.logs, self.pids, self.changed.set)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Start a well-behaved child."""
    bench = Bench(tmp_path, _SERVE)
    await bench.child.start()
    await bench.child.ready(within=PATIENCE_SECONDS)
    yield bench
    await bench.child.stop(within=PATIENCE_SECONDS)
    bench.logs.close()


async def said(bench: Bench, text: str) -> None:
    """Wait for a text of the child on the terminal."""

    async def is_there() -> bool:
        return text in bench.terminal.getvalue()

    await until(is_there)


async def test_its_lines_go_to_a_file_and_by_name_to_the_terminal(
    bench: Bench, tmp_path: Path
) -> None:
    """Each line is in the file, and with the name on the terminal."""
    await bench.child.stop(within=PATIENCE_SECONDS)

    assert (tmp_path / "logs" / "tried.log").read_text() == "serving\n"
    assert bench.terminal.getvalue() == "tried      | serving\n"


async def test_a_crashed_child_is_started_again_and_reported(bench: Bench) -> None:
    """A crashed child is restarted, and its new process id is printed."""
    assert bench.child.pid is not None
    before = ProcessRecord.of(bench.child.pid)
    assert before is not None
    before.signal(signal.SIGKILL)
    await asyncio.wait_for(bench.changed.wait(), PATIENCE_SECONDS)
    await bench.child.ready(within=PATIENCE_SECONDS)

    assert bench.child.pid != before.pid
    assert "tried was ended by SIGKILL: starting it again in 0.5 seconds" in (
        bench.terminal.getvalue()
    )
    assert bench.pids.running()["tried"].pid == bench.child.pid


async def test_a_stopped_child_stays_away(bench: Bench) -> None:
    """A stopped child is not restarted."""
    await bench.child.stop(within=PATIENCE_SECONDS)

    assert bench.pids.running() == {}
    assert "again" not in bench.terminal.getvalue()


async def test_a_child_that_does_not_end_is_killed(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed."""
    bench = Bench(tmp_path, _DEAF)
    await bench.child.start()
    await bench.child.ready(within=PATIENCE_SECONDS)
    assert bench.child.pid is not None
    process = ProcessRecord.of(bench.child.pid)
    await bench.child.stop(within=0.2)
    bench.logs.close()

    assert process is not None
    assert not process.runs
    assert "tried did not end in 0.2 seconds: killed" in bench.terminal.getvalue()


async def test_a_child_that_is_hurried_is_reported_twice(tmp_path: Path) -> None:
    """A second signal ends a child that waits for its work."""
    bench = Bench(tmp_path, _BUSY)
    await bench.child.start()
    await bench.child.ready(within=PATIENCE_SECONDS)
    stopping = asyncio.create_task(bench.child.stop(within=60))
    await said(bench, "told 1")  # two signals that come together are one
    still_there = not stopping.done()
    bench.child.hurry()
    await stopping
    bench.logs.close()

    assert still_there
    assert "tried      | told 2" in bench.terminal.getvalue()
    assert "killed" not in bench.terminal.getvalue()


@pytest.mark.parametrize(
    ("code", "reason", "within"),
    [
        ("print('AMQP_URL: is required'); raise SystemExit(2)", "does not start", PATIENCE_SECONDS),
        (
            "print('AMQP_URL: is required', flush=True); import signal; signal.pause()",
            "not ready",
            0.5,
        ),
    ],
)
async def test_a_child_that_never_gets_ready_is_reported_with_its_last_lines(
    tmp_path: Path, code: str, reason: str, within: float
) -> None:
    """A child that does not start is an error with its last lines."""
    bench = Bench(tmp_path, code)
    await bench.child.start()
    await said(bench, "AMQP_URL")

    with pytest.raises(StackError, match=rf"tried .*{reason}(?s:.*)AMQP_URL: is required"):
        await bench.child.ready(within)

    await bench.child.stop(within=PATIENCE_SECONDS)
    bench.logs.close()
