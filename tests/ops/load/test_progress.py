"""How far a run has come, for a person and for a log."""

import io

import pytest

from ops.load.progress import Progress, bar


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
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
    """More than all, where others send as well, is no more than the whole bar."""
    assert bar("sending", done, total, 2.0) == line


async def test_a_log_gets_lines_and_a_terminal_one_line() -> None:
    """Where a bar cannot be drawn again it must not fill a file; its end is told in any case."""
    for stream, head in ((io.StringIO(), ""), (Terminal(), "\r\x1b[K")):
        async with Progress(stream, clock=lambda: 0.0).phase("sending", lambda: 3, 4):
            pass

        assert stream.getvalue() == f"{head}{bar('sending', 3, 4, 0.0)}\n"


async def test_the_end_is_told_of_what_fails() -> None:
    """What was seen so far is what a person needs then."""
    stream = io.StringIO()
    with pytest.raises(ValueError, match="broken"):
        async with Progress(stream, clock=lambda: 0.0).phase("sending", lambda: 1, 4):
            raise ValueError("broken")

    assert "1 of 4" in stream.getvalue()
