"""Tests of when a relay hears commands one by one although it offers PIPELINING."""

from services.sender.smtp.pipelining import LOCK_STEP_SECONDS, STUMBLES, Pipelining


def test_offered() -> None:
    """PIPELINING is used where it is offered."""
    assert Pipelining().copes(100, 0)


def test_never_coped() -> None:
    """A relay that has not coped once is spared at its first stumble, for a while."""
    relay = Pipelining()
    relay.stumbled(1, 0)

    assert not relay.copes(1, LOCK_STEP_SECONDS - 1)
    assert relay.copes(1, LOCK_STEP_SECONDS)


def test_one_mail() -> None:
    """After a relay has coped, mails that end without a reply are no reason to go slower."""
    relay = Pipelining()
    relay.coped(1)
    for _ in range(STUMBLES - 1):
        relay.stumbled(1, 0)
    assert relay.copes(1, 0)
    relay.coped(1)
    relay.stumbled(1, 0)

    assert relay.copes(1, 0)


def test_too_large() -> None:
    """Groups larger than any that went well go one by one after a stumble, smaller ones do not."""
    relay = Pipelining()
    relay.coped(5)
    relay.stumbled(50, 0)

    assert [relay.copes(size, 0) for size in (1, 5, 6, 50, 100)] == [True, True] + [False] * 3


def test_grown_worse() -> None:
    """A relay that copes no more, many times in a row, is believed."""
    relay = Pipelining()
    relay.coped(5)
    for _ in range(STUMBLES):
        relay.stumbled(2, 0)

    assert not relay.copes(1, 0)
