"""Names in order."""

import random

import pytest

from services.classifier.order import RUN, in_order

CHANCE = random.Random(3)  # noqa: S311 -- an order, the same at each run
SORTED = [f"d{number:06}.example" for number in range(20 * RUN)]
SHUFFLED = CHANCE.sample(SORTED, len(SORTED))


@pytest.mark.parametrize("count", [0, 1, RUN, RUN + 1, 20 * RUN])
def test_all_come_in_order(count: int) -> None:
    """Each name comes once, after all that are smaller."""
    runs = in_order(SHUFFLED[:count])

    assert [name for run in runs for name in run] == sorted(SHUFFLED[:count])


@pytest.mark.parametrize("names", [SORTED, SORTED[::-1], SHUFFLED], ids=["up", "down", "shuffled"])
def test_no_piece_is_long(names: list[str]) -> None:
    """Whoever waits for the end of a piece waits for a small part of the whole."""
    assert max(map(len, in_order(names))) < 8 * RUN
