"""How often a client may ask."""

import pytest

from services.gateway.quota import CHUNK_SECONDS, Allowance, Quota


@pytest.mark.parametrize(
    ("per_second", "chunk", "cost", "burst"),
    [
        (1000, 500, 500_000, 1_000_000),
        (3, 1, 333_333, 1_000_000),
        (1, 1, 1_000_000, 1_000_000),
        (0.5, 1, 2_000_000, 2_000_000),
    ],
)
def test_a_quota_has_room_for_a_chunk(per_second: float, chunk: int, cost: int, burst: int) -> None:
    """A second's worth at once, and never less than one request."""
    quota = Quota(per_second)

    assert (quota.chunk, quota.cost, quota.burst) == (chunk, cost, burst)
    assert quota.cost <= quota.burst


def test_an_allowance_is_used_up() -> None:
    """No more than was granted, and not for longer than it is good."""
    allowance = Allowance()
    assert not allowance.use(0.0)

    allowance.granted(2, 0.0)
    assert [allowance.use(0.1) for _ in range(3)] == [True, True, False]

    allowance.granted(2, 1.0)
    assert allowance.use(1.0)
    assert not allowance.use(1.0 + 2 * CHUNK_SECONDS)


def test_after_a_refusal_there_is_no_use_in_asking() -> None:
    """Who asks on and on costs no question to the database."""
    allowance = Allowance()

    allowance.refused(2.0, 10.0)

    assert [allowance.wait(now) for now in (10.0, 11.5, 12.0, 13.0)] == [2.0, 0.5, 0.0, 0.0]
