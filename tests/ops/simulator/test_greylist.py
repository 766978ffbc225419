"""The greylist."""

from ops.simulator.greylist import REMEMBERED, Greylist
from tests.clock import Watch


def test_first_try(clock: Watch) -> None:
    """A pair is admitted once the time since its first try, not its last, is over."""
    greylist = Greylist(clock)

    assert not greylist.admits("a@x", "b@x", 10)
    clock.now += 9
    assert not greylist.admits("a@x", "B@X", 10)
    clock.now += 1
    assert greylist.admits("a@x", "b@x", 10)


def test_pairs(clock: Watch) -> None:
    """Another sender to the same recipient begins anew."""
    greylist = Greylist(clock)
    greylist.admits("a@x", "b@x", 10)
    clock.now += 10

    assert not greylist.admits("c@x", "b@x", 10)


def test_bounded(clock: Watch) -> None:
    """It remembers so many pairs and forgets the oldest."""
    greylist = Greylist(clock)
    greylist.admits("a@x", "oldest@x", 10)
    for number in range(REMEMBERED):
        greylist.admits("a@x", f"{number}@x", 10)
    clock.now += 10

    assert not greylist.admits("a@x", "oldest@x", 10)
    assert greylist.admits("a@x", f"{REMEMBERED - 1}@x", 10)
