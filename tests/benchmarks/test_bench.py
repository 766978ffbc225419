"""Memory and profiles of a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import bench

STATUS = (
    "Name:\tpython\nVmPeak:\t  90000 kB\nVmHWM:\t   51200 kB\nVmRSS:\t   50000 kB\nThreads:\t1\n"
)


@pytest.mark.parametrize(
    ("name", "octets"), [("VmHWM", 51200 * 1024), ("VmRSS", 50000 * 1024), ("VmNone", 0)]
)
def test_a_field_is_in_octets(name: str, octets: int) -> None:
    """Linux says kB and means KiB."""
    assert bench.memory_field(STATUS, name) == octets


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_is_not_below_what_is_there() -> None:
    """The peak of a process is at least its memory now."""
    assert bench.peak_memory(os.getpid()) >= bench.resident_memory(os.getpid()) > 0


def test_the_dearest_functions_come_first(tmp_path: Path) -> None:
    """Ordered by their own time."""
    profile = tmp_path / "profile"
    subprocess.run([*bench.profiled("json.tool", profile), "--help"], check=True)  # noqa: S603 -- Python itself

    lines = bench.hotspots(profile).partition("filename:lineno(function)\n")[2].split("\n")
    seconds = [float(line.split()[1]) for line in lines if line]

    assert len(seconds) == 15
    assert seconds == sorted(seconds, reverse=True)
