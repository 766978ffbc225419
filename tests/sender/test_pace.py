"""Tests of how fast mail may go, and of what one process sets aside."""

import pytest

from services.sender.pace import Allowance, Pace


@pytest.mark.parametrize(
    ("per_second", "burst", "chunk"), [(100, 100, 50), (2.5, 3, 1), (1, 1, 1), (0.01, 1, 1)]
)
def test_pace(per_second: float, burst: int, chunk: int) -> None:
    """A burst is what a second brings, and a chunk is never more than that."""
    pace = Pace(per_second)

    assert (pace.burst, pace.chunk) == (burst, chunk)


def test_time() -> None:
    """What mails cost is time."""
    assert Pace(100).microseconds(50) == 500_000
    assert Pace(0.01).microseconds(1) == 100_000_000


def test_use() -> None:
    """What was set aside is used up, and not beyond."""
    allowance = Allowance()

    assert not allowance.use(1, 0)
    allowance.granted(3, 0)
    assert [allowance.use(2, 0), allowance.use(2, 0), allowance.use(1, 0)] == [True, False, True]


def test_not_saved_up() -> None:
    """What was set aside and not used soon is not used at all."""
    allowance = Allowance()
    allowance.granted(3, 0)

    assert not allowance.use(1, 1.0)


def test_wait() -> None:
    """Who was refused does not ask again before there can be anything."""
    allowance = Allowance()
    allowance.refused(5, 100)

    assert (allowance.wait(100), allowance.wait(104), allowance.wait(106)) == (5, 1, 0)
