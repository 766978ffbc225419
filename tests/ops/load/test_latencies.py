"""Percentiles, and how they are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.load import latencies

_LATENCIES = st.lists(st.floats(0, 1e6), min_size=1)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 5.0), (0.51, 6.0), (0.99, 10.0), (1.0, 10.0), (0.0, 1.0)]
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    """Of ten values the fifth is the median, the last the 99th percentile."""
    values = [10.0, 2, 3, 4, 5, 6, 7, 8, 9, 1]

    assert latencies.percentile(values, share) == expected


@given(_LATENCIES, st.floats(0, 1))
def test_a_percentile_is_a_value_that_was_seen(values: list[float], share: float) -> None:
    """At least its share of the values does not exceed it."""
    found = latencies.percentile(values, share)

    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)


def test_the_worst_is_told_beside_the_usual() -> None:
    """Milliseconds under a second, seconds from then on."""
    told = latencies.told([0.001] * 98 + [0.5, 2.0])

    assert told == "p50 1.0 ms   p95 1.0 ms   p99 500.0 ms   most 2.00 s"


def test_nothing_has_no_percentiles() -> None:
    """A run that was ended at once has answered nothing."""
    assert latencies.told([]) == "-"
