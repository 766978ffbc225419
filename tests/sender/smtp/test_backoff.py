"""Waits that double: the first, the longest, and no end of failures."""

import pytest

from services.sender.smtp.backoff import Backoff


@pytest.mark.parametrize(("failures", "seconds"), [(0, 5), (1, 10), (3, 40), (4, 60), (10**6, 60)])
def test_doubling(failures: int, seconds: float) -> None:
    """Each wait is twice the one before, up to the longest, however many there were."""
    assert Backoff(5, 60).after(failures) == seconds
