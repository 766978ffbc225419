"""What dies again and again is started again ever later."""

from ops.stack.restarts import Restarts


def test_each_death_in_a_row_waits_longer() -> None:
    """Up to a limit: a cause that goes away after hours must not be waited for much longer."""
    restarts = Restarts()

    assert [restarts.pause(lived=1) for _ in range(7)] == [0.5, 1, 2, 4, 8, 8, 8]
    assert restarts.deaths == 7


def test_a_steady_life_is_a_new_start() -> None:
    """A crash a day is no row of crashes."""
    restarts = Restarts()
    for _ in range(3):
        restarts.pause(lived=1)

    assert (restarts.pause(lived=31), restarts.deaths) == (0.5, 1)
