"""Percentiles of durations, and the progress bar."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.load import report
from ops.load.report import ProgressBar, progress_line

_LATENCIES = st.lists(st.floats(0, 1e6), min_size=1)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 5.0), (0.51, 6.0), (0.99, 10.0), (1.0, 10.0), (0.0, 1.0)]
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    """Of ten values the fifth is the median, and the last one the 99th percentile."""
    values = [10.0, 2, 3, 4, 5, 6, 7, 8, 9, 1]

    assert report.percentile(values, share) == expected


@given(_LATENCIES, st.floats(0, 1))
def test_a_percentile_is_a_value_that_was_seen(values: list[float], share: float) -> None:
    """A percentile is one of the values, and its share of them does not exceed it."""
    found = report.percentile(values, share)

    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)


def test_the_worst_is_reported_beside_the_usual() -> None:
    """The longest duration is shown, in milliseconds below a second."""
    text = report.percentiles([0.001] * 98 + [0.5, 2.0])

    assert text == "p50 1.0 ms   p95 1.0 ms   p99 500.0 ms   most 2.00 s"


def test_nothing_has_no_percentiles() -> None:
    """A run that was ended at once has no durations."""
    assert report.percentiles([]) == "-"


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


@pytest.mark.parametrize(
    ("done", "total", "line"),
    [
        (0, 10, f"sending   [{'.' * 30}]   0%  0 of 10  0/s"),
        (5, 10, f"sending   [{'#' * 15}{'.' * 15}]  50%  5 of 10  2/s"),
        (10, 10, f"sending   [{'#' * 30}] 100%  10 of 10  5/s"),
        (11, 10, f"sending   [{'#' * 30}] 100%  11 of 10  6/s"),
        (0, 0, f"sending   [{'#' * 30}] 100%  0 of 0  0/s"),
    ],
)
def test_the_bar_tells_share_count_and_rate(done: int, total: int, line: str) -> None:
    """More arrivals than expected, from other senders, fill the bar and no more."""
    assert progress_line("sending", done, total, 2.0) == line


async def test_a_log_gets_lines_and_a_terminal_one_line() -> None:
    """A terminal shows one line that changes, a file a line for each update."""
    for stream, head in ((io.StringIO(), ""), (Terminal(), "\r\x1b[K")):
        async with ProgressBar(stream, clock=lambda: 0.0).phase("sending", lambda: 3, 4):
            pass

        assert stream.getvalue() == f"{head}{progress_line('sending', 3, 4, 0.0)}\n"


async def test_the_end_is_reported_of_what_fails() -> None:
    """A phase that fails shows how far it came."""
    stream = io.StringIO()
    with pytest.raises(ValueError, match="broken"):
        async with ProgressBar(stream, clock=lambda: 0.0).phase("sending", lambda: 1, 4):
            raise ValueError("broken")

    assert "1 of 4" in stream.getvalue()
