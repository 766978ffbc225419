"""Memory, profiles and calls of processes, and turns."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest

from benchmarks import bench
from benchmarks.bench import Bench, BenchError


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_is_not_below_what_is_there() -> None:
    """The peak of a process is at least its memory now."""
    assert bench.peak_memory(os.getpid()) >= psutil.Process().memory_info().rss > 0


def test_the_dearest_functions_come_first(tmp_path: Path) -> None:
    """Ordered by their own time."""
    profile = tmp_path / "profile"
    subprocess.run([*bench.profiling("json.tool", profile), "--help"], check=True)  # noqa: S603 -- Python itself

    lines = bench.hotspots(profile).partition("filename:lineno(function)\n")[2].split("\n")
    seconds = [float(line.split()[1]) for line in lines if line]

    assert len(seconds) == 15
    assert seconds == sorted(seconds, reverse=True)


async def test_a_function_is_called_in_another_process(place: Bench) -> None:
    """Its result comes back as it is; its error ends the measurement."""
    assert await place.call(mean_of_pairs, [(1, 3), (2, 4)]) == [2.0, 3.0]
    with pytest.raises(BenchError, match="mean_of_pairs failed with exit code 1"):
        await place.call(mean_of_pairs, None)


async def mean_of_pairs(pairs: list[tuple[int, int]]) -> list[float]:
    """Return the mean of each pair."""
    return [sum(each) / 2 for each in pairs]


async def test_kinds_are_measured_in_turns() -> None:
    """Each is measured once before any is measured again."""
    order: list[str] = []

    async def measured(name: str) -> int:
        order.append(name)
        return len(order)

    found = await bench.in_turns({name: partial(measured, name) for name in "ab"}, 2)

    assert order == ["a", "b", "a", "b"]
    assert found == {"a": [1, 3], "b": [2, 4]}
