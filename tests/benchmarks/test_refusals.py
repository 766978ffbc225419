"""The measurement of refusals: real services, few guesses."""

import pytest

from benchmarks import refusals
from benchmarks.bench import Bench


@pytest.mark.rabbit
@pytest.mark.journey
async def test_every_kind_is_refused(bench: Bench) -> None:
    """Each kind is tried as often as the others."""
    times = await refusals.measure(bench, 25)

    assert {kind: len(seconds) for kind, seconds in times.items()} == dict.fromkeys(
        refusals.KINDS, 5
    )


def test_a_difference_is_told() -> None:
    """The table names what can be told apart."""
    same = [0.001 * number for number in range(1, 100)]
    slow = [second * 2 for second in same]

    assert "unknown can be told by its time" in refusals.table(
        {"unknown": slow, "wrong": same, "used": same, "expired": same, "exhausted": same}
    )
    assert "no kind can be told" in refusals.table({"unknown": same, "wrong": same})
