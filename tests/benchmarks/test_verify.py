"""The measurement of verifications counts right: real services, few codes."""

import pytest

from benchmarks import verify
from benchmarks.accept import Plan
from benchmarks.bench import Bench

pytestmark = [pytest.mark.rabbit, pytest.mark.journey]


async def test_every_code_is_verified_once(bench: Bench) -> None:
    """As many right codes are verified, and wrong ones refused, as were asked for."""
    right, wrong = await verify.measure(bench, Plan(count=20, connections=2, repetitions=2))

    assert len(right.latencies) == len(wrong.latencies) == 2 * 20
    assert right.rate > 0
    assert wrong.rate > 0
