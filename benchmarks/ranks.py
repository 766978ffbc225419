"""Pure: whether two sets of times differ, by the ranks of their values (Mann and Whitney, 1947)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CRITICAL = 3.29  # of a normal deviate: exceeded either way once in a thousand by chance


@dataclass(frozen=True, slots=True)
class Comparison:
    """How often a value of ours is the greater, from 0 to 1, and how odd that would be by chance.

    `deviate` is normally distributed around 0, with the deviation 1, if there is no difference.
    """

    share: float
    deviate: float

    @property
    def differs(self) -> bool:
        """Whether chance is no explanation."""
        return abs(self.deviate) > CRITICAL


def compare(ours: Sequence[float], others: Sequence[float]) -> Comparison:
    """Compare some values with others; equal ones count half."""
    ranks = _ranks([*ours, *others])
    pairs = len(ours) * len(others)
    wins = sum(ranks[: len(ours)]) - len(ours) * (len(ours) + 1) / 2
    deviation = math.sqrt(pairs * (len(ours) + len(others) + 1) / 12)
    return Comparison(wins / pairs, (wins - pairs / 2) / deviation)


def _ranks(values: Sequence[float]) -> Sequence[float]:
    """Give the place of each value from 1; equal values share the mean of their places."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks, start = [0.0] * len(values), 0
    for end in range(1, len(order) + 1):
        if end == len(order) or values[order[end]] != values[order[start]]:
            for place in order[start:end]:
                ranks[place] = (start + 1 + end) / 2
            start = end
    return ranks
