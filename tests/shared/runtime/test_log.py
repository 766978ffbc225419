"""Logs: one JSON object a line, with the ids of the delivery, without whole addresses."""

import asyncio
import json
import os
import pty
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from shared.runtime import log, metrics
from shared.runtime.log import MAX_WAITING_BYTES, Lines
from tests.waiting import PATIENCE_SECONDS

WRITER = """
import asyncio, logging, structlog
from shared.runtime import log

log.configure("demo", "INFO")
logger = structlog.get_logger("ours")
logger.info("two\\nlines", value=object)
logger.info("no text", value="caf\\udce9", other=object)
logger.debug("too fine")
logging.getLogger("theirs").warning("of a library: %s", "ann")
logging.getLogger("theirs").info("also heard")
logging.getLogger("theirs").debug("too fine")
for quiet, least in log.QUIET.items():
    logging.getLogger(quiet + ".deep").log(least - 10, "details of a library")

async def handle(name):
    log.bind({"id": name})
    await asyncio.sleep(0)
    logger.info("handled")
    logging.getLogger("theirs").info("handled there")

async def main():
    await asyncio.gather(handle("m1"), handle("m2"))

asyncio.run(main())
logger.info("after")
try:
    1 / 0
except ZeroDivisionError:
    logger.exception("a handler failed")
"""


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    """Log in a process of its own, since logging is one for all of a process."""
    done = subprocess.run([sys.executable, "-c", WRITER], capture_output=True, check=True)  # noqa: S603 -- our own text

    assert done.stderr == b""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_line_is_one_object(lines: list[dict[str, Any]]) -> None:
    """A line break in a value starts no line; a value without a JSON form is logged as text."""
    assert lines[0]["event"] == "two\nlines"
    assert lines[0]["value"] == repr(object)
    assert all({"event", "level", "service", "timestamp"} <= line.keys() for line in lines)


def test_values_that_are_no_text_are_written(lines: list[dict[str, Any]]) -> None:
    """Text with surrogates can be logged."""
    assert lines[1]["event"] == "no text"
    assert lines[1]["value"] == "caf\udce9"
    assert lines[1]["other"] == repr(object)


def test_lines_tell_service_level_and_time(lines: list[dict[str, Any]]) -> None:
    """Times are in UTC, so that lines of many machines can be sorted."""
    assert {line["service"] for line in lines} == {"demo"}
    assert {line["level"] for line in lines} == {"info", "warning", "error"}
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_libraries_log_like_us(lines: list[dict[str, Any]]) -> None:
    """Lines of libraries have the same format and level."""
    events = [line["event"] for line in lines]

    assert "of a library: ann" in events
    assert "also heard" in events
    assert "too fine" not in events


def test_quiet_libraries_are_quiet(lines: list[dict[str, Any]]) -> None:
    """The details of some libraries are not logged."""
    assert "details of a library" not in [line["event"] for line in lines]


def test_ids_stay_with_their_task(lines: list[dict[str, Any]]) -> None:
    """Two deliveries at once do not mix up their ids, in our lines and in those of libraries."""
    handled = [(line["event"], line["id"]) for line in lines if line["event"].startswith("handled")]

    assert sorted(handled) == [
        ("handled", "m1"),
        ("handled", "m2"),
        ("handled there", "m1"),
        ("handled there", "m2"),
    ]
    assert "id" not in next(line for line in lines if line["event"] == "after")


def test_an_exception_is_one_line_with_its_traceback(lines: list[dict[str, Any]]) -> None:
    """The traceback is a field, so that it is found with its line."""
    assert lines[-1]["event"] == "a handler failed"
    assert "ZeroDivisionError" in lines[-1]["exception"]


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("ann@example.org", "a***@example.org"),
        ("a@example.org", "a***@example.org"),
        ("ännchen@xn--bcher-kva.example", "ä***@xn--bcher-kva.example"),
    ],
)
def test_addresses_are_masked(address: str, masked: str) -> None:
    """A log shows of an address the first letter and the domain."""
    assert log.masked(address) == masked


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        ("/v1/messages/7b85b2f9-0de1-4caa-9d4b-538503496b78", None),
        ("/v1/events/b%C3%BCcher.example/delivered", "/v1/events/bücher.example/delivered"),
        ("/v1/suppressions/ann@example.org", "/v1/suppressions/a***@example.org"),
        ("/v1/suppressions/ann%40example.org/x", "/v1/suppressions/a***@example.org/x"),
        ("/v1/suppressions/ann%2540example.org", "/v1/suppressions/***"),
        ("/%22ann%2Fb%22@example.org", '/"***@example.org'),
    ],
)
def test_a_path_has_no_address(path: str, logged: str | None) -> None:
    """A log shows the path of a URL with its addresses masked, however they are encoded."""
    assert log.masked_path(path) == (logged or path)


LINE = b"x" * 999 + b"\n"


def gap(count: int) -> bytes:
    """Return a line about dropped lines."""
    return b"%d missing\n" % count


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """Yield the ends of a pipe for reading and writing."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def write_line(lines: Lines, line: bytes) -> None:
    """Write a line as a logger does."""
    lines.write(line)
    lines.flush()


def came(reading: int) -> bytes:
    """Return the bytes that have come so far."""
    found = b""
    try:
        while part := os.read(reading, 1 << 20):
            found += part
    except BlockingIOError:
        pass
    return found


def test_lines_of_one_turn_leave_together_at_its_end(ends: tuple[int, int]) -> None:
    """The lines of one turn leave together, those of the next turn with it."""
    reading, writing = ends
    lines = Lines(writing, gap)

    async def turns() -> None:
        write_line(lines, b"1\n")
        write_line(lines, b"2\n")
        assert came(reading) == b""
        await asyncio.sleep(0)
        assert came(reading) == b"1\n2\n"
        write_line(lines, b"3\n")
        await asyncio.sleep(0)

    asyncio.run(turns())
    assert came(reading) == b"3\n"


def test_without_a_loop_a_line_leaves_at_once(ends: tuple[int, int]) -> None:
    """Before and after the event loop runs, a line leaves at once."""
    reading, writing = ends
    lines = Lines(writing, gap)
    for line in (b"1\n", b"2\n"):
        write_line(lines, line)
        assert came(reading) == line


def test_a_loop_that_stops_in_the_middle_keeps_back_none_of_the_next(ends: tuple[int, int]) -> None:
    """Another event loop sends its own lines."""
    reading, writing = ends
    lines = Lines(writing, gap)
    stopped = asyncio.new_event_loop()
    stopped.call_soon(write_line, lines, b"1\n")
    stopped.call_soon(stopped.stop)
    stopped.run_forever()
    stopped.close()

    async def turn() -> None:
        write_line(lines, b"2\n")
        await asyncio.sleep(0)

    asyncio.run(turn())
    assert came(reading) == b"1\n2\n"


async def test_a_line_of_another_thread_leaves_at_once(ends: tuple[int, int]) -> None:
    """A line of another thread leaves at once."""
    reading, writing = ends
    await asyncio.to_thread(write_line, Lines(writing, gap), b"1\n")

    assert came(reading) == b"1\n"


async def test_a_reader_that_does_not_read_is_not_waited_for(ends: tuple[int, int]) -> None:
    """Lines beyond the limit are dropped, and a later line has their number."""
    reading, writing = ends
    lines = Lines(writing, gap)
    before = metrics.LOG_LINES_DROPPED._value.get()
    sent = 2 * MAX_WAITING_BYTES // len(LINE)
    for _ in range(sent):
        write_line(lines, LINE)
        await asyncio.sleep(0)
    dropped = int(metrics.LOG_LINES_DROPPED._value.get() - before)

    read = b""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while b"missing" not in read:
            read += came(reading)
            await asyncio.sleep(0)
    assert dropped > sent // 4
    assert read == LINE * (sent - dropped) + gap(dropped)
    write_line(lines, b"on\n")
    await asyncio.sleep(0)
    assert came(reading) == b"on\n"


async def test_a_terminal_that_is_stopped_is_not_waited_for() -> None:
    """A terminal stopped by Ctrl-S does not stop the process."""
    controlling, terminal = pty.openpty()
    lines = Lines(terminal, gap)
    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(1000):
            write_line(lines, LINE)
            await asyncio.sleep(0)

    assert os.get_blocking(terminal)  # the flag is also that of the shell
    os.close(controlling)
    os.close(terminal)


async def test_a_reader_that_has_gone_ends_nothing(ends: tuple[int, int]) -> None:
    """A closed pipe, as of `head`, ends nothing."""
    _, writing = ends
    reading, other = os.pipe()
    os.dup2(other, writing)
    os.close(other)
    os.close(reading)
    lines = Lines(writing, gap)
    before = metrics.LOG_LINES_DROPPED._value.get()

    write_line(lines, LINE)
    await asyncio.sleep(0)

    assert metrics.LOG_LINES_DROPPED._value.get() > before


def test_a_file_takes_everything() -> None:
    """A file takes all lines of one turn."""
    with tempfile.TemporaryFile() as file:
        lines = Lines(file.fileno(), gap)

        async def turn() -> None:
            for _ in range(1000):
                write_line(lines, LINE)

        asyncio.run(turn())
        lines.flush()
        file.seek(0)
        assert file.read() == LINE * 1000


_SERVER = """
import asyncio, sys
from aiohttp import web
import structlog
from shared.runtime import health, log

log.configure("demo", "INFO")
logger = structlog.get_logger()

async def answer(_):
    logger.info("request", padding="x" * 1000)
    return web.Response(text="logged")

async def main():
    app = web.Application()
    app.router.add_get("/", answer)
    async with health.serving(app, "127.0.0.1", 0) as port:
        print(port, file=sys.stderr, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_service_whose_output_is_not_read_goes_on_serving() -> None:
    """Every request is answered, and the log has the number of dropped lines (issue 10, A10)."""
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SERVER, stdout=writing, stderr=asyncio.subprocess.PIPE
    )
    os.close(writing)
    assert process.stderr
    try:
        async with asyncio.timeout(60):
            port = int(await process.stderr.readline())
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                for _ in range(1500):
                    async with session.get("/") as answer:
                        assert await answer.text() == "logged"
            with os.fdopen(reading, "rb") as output:
                count = 0
                while (line := json.loads(await asyncio.to_thread(output.readline)))[
                    "event"
                ] == "request":
                    count += 1
    finally:
        process.kill()
        await process.wait()

    assert line["event"] == "log lines dropped"
    assert line["service"] == "demo"
    assert (count + line["count"], line["count"] > 0) == (1500, True)
