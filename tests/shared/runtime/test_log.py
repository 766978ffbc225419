"""Logs: one JSON object a line, with the ids of the delivery, without whole addresses."""

import json
import subprocess
import sys
from typing import Any

import pytest

from shared.runtime import log

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
    logging.getLogger(quiet + ".deep").log(least - 10, "told better by the seam")

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
    """A line break in what is logged starts no line; what JSON cannot write is written as text."""
    assert lines[0]["event"] == "two\nlines"
    assert lines[0]["value"] == repr(object)
    assert all({"event", "level", "service", "timestamp"} <= line.keys() for line in lines)


def test_what_is_no_text_is_written_all_the_same(lines: list[dict[str, Any]]) -> None:
    """A peer's bytes, decoded with surrogates, fail neither the line nor whoever writes it."""
    assert lines[1]["event"] == "no text"
    assert lines[1]["value"] == "caf\udce9"
    assert lines[1]["other"] == repr(object)


def test_lines_tell_service_level_and_time(lines: list[dict[str, Any]]) -> None:
    """Times are in UTC, so that lines of many machines can be sorted."""
    assert {line["service"] for line in lines} == {"demo"}
    assert {line["level"] for line in lines} == {"info", "warning", "error"}
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_libraries_log_like_us(lines: list[dict[str, Any]]) -> None:
    """One format for all; what is below the level is not there."""
    events = [line["event"] for line in lines]

    assert "of a library: ann" in events
    assert "also heard" in events
    assert "too fine" not in events


def test_quiet_libraries_are_quiet(lines: list[dict[str, Any]]) -> None:
    """A lost connection is told once, by the seam."""
    assert "told better by the seam" not in [line["event"] for line in lines]


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
    """The domain helps to find a fault; who it was is nobody's business."""
    assert log.masked(address) == masked
