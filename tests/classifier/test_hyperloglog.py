"""The estimate of distinct recipients."""

from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.classifier.hyperloglog import EMPTY, REGISTERS, estimate, hashed, merge


def people(count: int, start: int = 0) -> list[int]:
    """Return the hashes of so many recipients."""
    return [hashed(f"user{number}@a.example") for number in range(start, start + count)]


@pytest.mark.parametrize("count", [0, 1, 2, 10, 100, 500, 1000, 5000, 50_000])
def test_about_right(count: int) -> None:
    """The estimate is within three standard errors, and nearly exact for few."""
    assert estimate(merge(EMPTY, people(count))) == pytest.approx(count, rel=0.2, abs=1)


@pytest.mark.parametrize("count", range(0, 1500, 30))
def test_the_formula(count: int) -> None:
    """The estimate is that of the paper, also where the shortcut skips a part of it."""
    sketch = merge(EMPTY, people(count))
    raw = 0.7213 / (1 + 1.079 / 256) * 256**2 / sum(2.0**-rank for rank in sketch)
    few = raw <= 2.5 * 256 and 0 in sketch

    assert estimate(sketch) == round(256 * log(256 / sketch.count(0)) if few else raw)


def test_its_room_is_fixed() -> None:
    """A sketch does not grow with the number of names."""
    assert len(merge(EMPTY, people(10_000))) == REGISTERS


def test_the_largest_rank_fits() -> None:
    """A hash whose bits are all zero has a rank too."""
    assert max(merge(EMPTY, [0])) == 57


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50), st.randoms())
def test_a_function_of_the_set(hashes: list[int], chance: st.DataObject) -> None:
    """Order, copies and splits change nothing."""
    shuffled = [*hashes, *hashes[:10]]
    chance.shuffle(shuffled)  # type: ignore[attr-defined] # a random.Random
    half = len(shuffled) // 2

    assert merge(merge(EMPTY, shuffled[:half]), shuffled[half:]) == merge(EMPTY, hashes)
