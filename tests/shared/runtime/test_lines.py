"""Lines: one system call for those of one turn, and no reader is waited for."""

import asyncio
import json
import os
import pty
import sys
import tempfile
from collections.abc import Iterator

import aiohttp
import pytest

from shared.runtime import metrics
from shared.runtime.lines import MAX_WAITING_BYTES, Lines

LINE = b"x" * 999 + b"\n"


def gap(count: int) -> bytes:
    """Return a line about a gap."""
    return b"%d missing\n" % count


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """Yield the ends of a pipe for reading and writing."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def log(lines: Lines, line: bytes) -> None:
    """Write a line as a logger does."""
    lines.write(line)
    lines.flush()


def came(reading: int) -> bytes:
    """Return what has come so far."""
    found = b""
    try:
        while part := os.read(reading, 1 << 20):
            found += part
    except BlockingIOError:
        pass
    return found


def test_lines_of_one_turn_leave_together_at_its_end(ends: tuple[int, int]) -> None:
    """And those of the next turn with the next."""
    reading, writing = ends
    lines = Lines(writing, gap)

    async def turns() -> None:
        log(lines, b"1\n")
        log(lines, b"2\n")
        assert came(reading) == b""
        await asyncio.sleep(0)
        assert came(reading) == b"1\n2\n"
        log(lines, b"3\n")
        await asyncio.sleep(0)

    asyncio.run(turns())
    assert came(reading) == b"3\n"


def test_without_a_loop_a_line_leaves_at_once(ends: tuple[int, int]) -> None:
    """Before and after the service has run."""
    reading, writing = ends
    lines = Lines(writing, gap)
    for line in (b"1\n", b"2\n"):
        log(lines, line)
        assert came(reading) == line


def test_a_loop_that_stops_in_the_middle_keeps_back_none_of_the_next(ends: tuple[int, int]) -> None:
    """What another loop logs is sent by that one."""
    reading, writing = ends
    lines = Lines(writing, gap)
    stopped = asyncio.new_event_loop()
    stopped.call_soon(log, lines, b"1\n")
    stopped.call_soon(stopped.stop)
    stopped.run_forever()
    stopped.close()

    async def turn() -> None:
        log(lines, b"2\n")
        await asyncio.sleep(0)

    asyncio.run(turn())
    assert came(reading) == b"1\n2\n"


async def test_a_line_of_another_thread_leaves_at_once(ends: tuple[int, int]) -> None:
    """It has no turn whose end would send it."""
    reading, writing = ends
    await asyncio.to_thread(log, Lines(writing, gap), b"1\n")

    assert came(reading) == b"1\n"


async def test_a_reader_that_does_not_read_is_not_waited_for(ends: tuple[int, int]) -> None:
    """Its lines wait; those beyond the limit are dropped, counted, and told when it reads again."""
    reading, writing = ends
    lines = Lines(writing, gap)
    before = metrics.LOG_LINES_DROPPED._value.get()
    sent = 2 * MAX_WAITING_BYTES // len(LINE)
    for _ in range(sent):
        log(lines, LINE)
        await asyncio.sleep(0)
    dropped = int(metrics.LOG_LINES_DROPPED._value.get() - before)

    read = b""
    async with asyncio.timeout(10):
        while b"missing" not in read:
            read += came(reading)
            await asyncio.sleep(0)
    assert dropped > sent // 4
    assert read == LINE * (sent - dropped) + gap(dropped)
    log(lines, b"on\n")
    await asyncio.sleep(0)
    assert came(reading) == b"on\n"


async def test_a_terminal_that_is_stopped_is_not_waited_for() -> None:
    """Ctrl-S stops what is shown, and nothing else."""
    controlling, terminal = pty.openpty()
    lines = Lines(terminal, gap)
    async with asyncio.timeout(10):
        for _ in range(1000):
            log(lines, LINE)
            await asyncio.sleep(0)

    assert os.get_blocking(terminal)  # the flag is also that of the shell
    os.close(controlling)
    os.close(terminal)


async def test_a_reader_that_has_gone_ends_nothing(ends: tuple[int, int]) -> None:
    """`| head` takes ten lines and closes the pipe."""
    _, writing = ends
    reading, other = os.pipe()
    os.dup2(other, writing)
    os.close(other)
    os.close(reading)
    lines = Lines(writing, gap)
    before = metrics.LOG_LINES_DROPPED._value.get()

    log(lines, LINE)
    await asyncio.sleep(0)

    assert metrics.LOG_LINES_DROPPED._value.get() > before


def test_a_file_takes_everything() -> None:
    """However much comes in one turn."""
    with tempfile.TemporaryFile() as file:
        lines = Lines(file.fileno(), gap)

        async def turn() -> None:
            for _ in range(1000):
                log(lines, LINE)

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

async def tell(_):
    logger.info("request", padding="x" * 1000)
    return web.Response(text="told")

async def main():
    app = web.Application()
    app.router.add_get("/", tell)
    async with health.serving(app, "127.0.0.1", 0) as port:
        print(port, file=sys.stderr, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_service_whose_output_is_not_read_goes_on_serving() -> None:
    """Every request is answered, and the log tells how many lines are missing (issue 10, A10)."""
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
                        assert await answer.text() == "told"
            with os.fdopen(reading, "rb") as output:
                told = 0
                while (line := json.loads(await asyncio.to_thread(output.readline)))[
                    "event"
                ] == "request":
                    told += 1
    finally:
        process.kill()
        await process.wait()

    assert line["event"] == "log lines dropped"
    assert line["service"] == "demo"
    assert (told + line["count"], line["count"] > 0) == (1500, True)
