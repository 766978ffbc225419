"""Whether two sets of times differ."""

import random

import pytest

from benchmarks.ranks import compare


def test_the_greater_half() -> None:
    """All of ours are greater than all others, or none is."""
    assert compare([3, 4], [1, 2]).share == 1
    assert compare([1, 2], [3, 4]).share == 0


def test_equal_values_count_half() -> None:
    """Whoever is never greater and never less is no different."""
    found = compare([1, 1, 1], [1, 1])

    assert found.share == 0.5
    assert found.deviate == 0


def test_a_known_case() -> None:
    """The deviate is that of the textbook: U 6 of 12 pairs, with a deviation of the root of 8."""
    found = compare([1, 4, 6], [2, 3, 5, 7])

    assert found.share == pytest.approx(5 / 12)
    assert found.deviate == pytest.approx((5 - 6) / 8**0.5)


@pytest.mark.parametrize(("shift", "differs"), [(0.0, False), (0.2, True)])
def test_a_shift_is_found(shift: float, *, differs: bool) -> None:
    """A fifth of a deviation is found among 2,000 and 8,000 values, and no shift is not."""
    draw = random.Random(7)  # noqa: S311 -- no secret
    ours = [draw.gauss() + shift for _ in range(2000)]

    assert compare(ours, [draw.gauss() for _ in range(8000)]).differs is differs
