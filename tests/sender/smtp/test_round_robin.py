"""Tests of whose turn it is."""

from collections import Counter
from itertools import pairwise

from services.sender.smtp.round_robin import Turns


def test_in_proportion() -> None:
    """Everybody has turns in proportion to the weight."""
    turns = Turns({"a": 5, "b": 3, "c": 2})

    assert Counter(turns.next("abc") for _ in range(1000)) == {"a": 500, "b": 300, "c": 200}


def test_never_long_in_a_row() -> None:
    """Turns are spread evenly, not dealt in blocks."""
    turns = Turns({"a": 1, "b": 1})
    dealt = [turns.next("ab") for _ in range(10)]

    assert all(first != second for first, second in pairwise(dealt))


def test_no_making_up() -> None:
    """Who was away has no burst of turns afterwards."""
    turns = Turns({"a": 1, "b": 1})
    for _ in range(1000):
        turns.next("a")

    assert Counter(turns.next("ab") for _ in range(10)) == {"a": 5, "b": 5}
