"""Reading what Linux tells of a process's memory."""

import os
import sys

import pytest

from benchmarks import memory

STATUS = (
    "Name:\tpython\nVmPeak:\t  90000 kB\nVmHWM:\t   51200 kB\nVmRSS:\t   50000 kB\nThreads:\t1\n"
)


@pytest.mark.parametrize(
    ("name", "octets"), [("VmHWM", 51200 * 1024), ("VmRSS", 50000 * 1024), ("VmNone", 0)]
)
def test_a_field_is_in_octets(name: str, octets: int) -> None:
    """Linux says kB and means KiB."""
    assert memory.read(STATUS, name) == octets


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_is_not_below_what_is_there() -> None:
    """Both are told of a running process."""
    assert memory.peak(os.getpid()) >= memory.resident(os.getpid()) > 0
