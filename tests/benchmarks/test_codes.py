"""Reading mails with codes in the sender's place."""

import random

import orjson
import pytest

from benchmarks import codes
from benchmarks.bench import Bench, BenchPlan
from benchmarks.codes import CodeReader, compare
from shared.contracts import Category, SendEmail
from shared.runtime.sealing import Sealer


async def test_codes_are_kept_by_recipient() -> None:
    """The code is the line that is a number; a second copy changes nothing."""
    reader = CodeReader(Sealer([bytes(32)]))
    content = orjson.dumps({"text": "It is 6 digits:\n\n012345\n\nBye", "html": ""})
    mail = SendEmail(
        id="m-1",
        category=Category.OTP,
        to=("Ann <ann@example.com>",),
        subject="Your code",
        sealed=reader.sealer.seal(content, context="m-1"),
    )
    await reader.take(mail)
    await reader.take(mail)

    assert await reader.filled(1) == {"ann@example.com": "012345"}


@pytest.mark.rabbit
@pytest.mark.journey
async def test_every_code_is_verified_once(bench: Bench) -> None:
    """As many right codes are verified, and wrong ones refused, as were asked for."""
    right, wrong = await codes.measure(bench, BenchPlan(count=20, repetitions=2))

    assert len(right.latencies) == len(wrong.latencies) == 2 * 20
    assert right.rate > 0
    assert wrong.rate > 0


@pytest.mark.rabbit
@pytest.mark.journey
async def test_every_kind_is_refused(bench: Bench) -> None:
    """Each kind is tried as often as the others."""
    times = await codes.refusals(bench, 25)

    assert {kind: len(seconds) for kind, seconds in times.items()} == dict.fromkeys(codes.KINDS, 5)


def test_a_difference_is_reported() -> None:
    """The table names what can be told apart."""
    same = [0.001 * number for number in range(1, 100)]
    slow = [second * 2 for second in same]

    assert "unknown can be told by its time" in codes.table(
        {"unknown": slow, "wrong": same, "used": same, "expired": same, "exhausted": same}
    )
    assert "no kind can be told" in codes.table({"unknown": same, "wrong": same})


def test_the_greater_half() -> None:
    """All of ours are greater than all others, or none is."""
    assert compare([3, 4], [1, 2]).share == 1
    assert compare([1, 2], [3, 4]).share == 0


def test_equal_values_count_half() -> None:
    """Equal samples do not differ."""
    found = compare([1, 1, 1], [1, 1])

    assert found.share == 0.5
    assert found.deviate == 0


def test_a_known_case() -> None:
    """The deviate is that of the textbook: U 6 of 12 pairs, with a deviation of the root of 8."""
    found = compare([1, 4, 6], [2, 3, 5, 7])

    assert found.share == pytest.approx(5 / 12)
    assert found.deviate == pytest.approx((5 - 6) / 8**0.5)


@pytest.mark.parametrize(("shift", "differs"), [(0.0, False), (0.2, True)])
def test_a_shift_is_found(shift: float, *, differs: bool) -> None:
    """A fifth of a deviation is found among 2,000 and 8,000 values, and no shift is not."""
    draw = random.Random(7)  # noqa: S311 -- no secret
    ours = [draw.gauss() + shift for _ in range(2000)]

    assert compare(ours, [draw.gauss() for _ in range(8000)]).differs is differs
