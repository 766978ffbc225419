"""The measurement of refusals: real services, few guesses."""

import random

import pytest

from benchmarks import refusals
from benchmarks.bench import Bench
from benchmarks.refusals import compare


@pytest.mark.rabbit
@pytest.mark.journey
async def test_every_kind_is_refused(bench: Bench) -> None:
    """Each kind is tried as often as the others."""
    times = await refusals.measure(bench, 25)

    assert {kind: len(seconds) for kind, seconds in times.items()} == dict.fromkeys(
        refusals.KINDS, 5
    )


def test_a_difference_is_reported() -> None:
    """The table names what can be told apart."""
    same = [0.001 * number for number in range(1, 100)]
    slow = [second * 2 for second in same]

    assert "unknown can be told by its time" in refusals.table(
        {"unknown": slow, "wrong": same, "used": same, "expired": same, "exhausted": same}
    )
    assert "no kind can be told" in refusals.table({"unknown": same, "wrong": same})


def test_the_greater_half() -> None:
    """All of ours are greater than all others, or none is."""
    assert compare([3, 4], [1, 2]).share == 1
    assert compare([1, 2], [3, 4]).share == 0


def test_equal_values_count_half() -> None:
    """Equal samples do not differ."""
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
