"""Profiles as tables."""

import subprocess
from pathlib import Path

from benchmarks import hotspots


def test_the_dearest_functions_come_first(tmp_path: Path) -> None:
    """Each with its time and calls for one message."""
    profile = tmp_path / "profile"
    subprocess.run([*hotspots.profiled("json.tool", profile), "--help"], check=True)  # noqa: S603 -- Python itself

    head, *lines = hotspots.table(profile, count=2).splitlines()

    assert head.split() == ["own", "time", "µs", "calls"]
    assert len(lines) == 15
    micros = [int(line.split()[-2].replace(",", "")) for line in lines]
    assert micros == sorted(micros, reverse=True)
