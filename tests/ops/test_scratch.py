"""A killed run's directory, processes and containers are cleared by a later run."""

import asyncio
import os
from pathlib import Path

from ops.process import PidFiles, ProcessRecord
from ops.scratch import scratch
from tests.processes import started, waiting

_NODE = "import signal; print('up', flush=True); signal.pause()"
_RUN = """
import pathlib, sys
from ops.scratch import scratch
with scratch(pathlib.Path(sys.argv[1])):
    pass
"""


def test_the_directory_is_gone_after_the_run(tmp_path: Path) -> None:
    """A run clears its own directory."""
    with scratch(tmp_path) as directory:
        (directory / "file").touch()

    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_ended_and_deleted(tmp_path: Path) -> None:
    """Processes, directories and links of a killed run are removed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    killed = tmp_path / "runs" / "1"
    (killed / "node" / "pids").mkdir(parents=True)
    (killed / "data").symlink_to(elsewhere)
    (killed / "owner").write_text("1 1")  # process 1 started at another time
    with waiting(_NODE) as left:
        PidFiles(killed / "node" / "pids").add("node", left.pid)
        with scratch(tmp_path / "runs"):
            pass

        assert left.wait(10) == -15
    assert not killed.exists()
    assert not elsewhere.exists()


async def test_runs_that_start_together_clear_up_one_after_the_other(tmp_path: Path) -> None:
    """Runs that start together do not disturb each other's clearing."""
    for number in range(1, 41):
        pids = tmp_path / str(number) / "node" / "pids"
        pids.mkdir(parents=True)
        for name in ("epmd", "rabbitmq"):
            (pids / f"{name}.pid").write_text("1 1")  # process 1 started at another time
    command = ("-c", _RUN, tmp_path)
    async with (
        asyncio.timeout(60),
        started(*command) as one,
        started(*command) as two,
        started(*command) as three,
    ):
        assert [await run.wait() for run in (one, two, three)] == [0, 0, 0]

    assert await asyncio.to_thread(os.listdir, tmp_path) == []


def test_a_run_beside_this_one_is_let_alone(tmp_path: Path) -> None:
    """The directory of a running run is left alone."""
    beside = tmp_path / str(os.getppid())
    beside.mkdir()
    (beside / "owner").write_text(str(ProcessRecord.of(os.getppid())))
    with scratch(tmp_path):
        pass

    assert beside.exists()
