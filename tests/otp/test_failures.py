"""Failures of clients and addresses at all recipients: counted, limited, given back."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from services.otp.codes import CodeScope
from services.otp.guessing import CodeUse, CountedGuess, Guess, GuessDecision, UncheckedGuess
from services.otp.limits import CodeLimits
from services.otp.sql import failures, guesses
from shared.storage.database import Database
from tests.clock import Clock
from tests.otp.asking import ANNA, IP, NO_LIMITS, PEOPLE, Asking, rows

HOUR = 3600  # seconds


def limits(client: int = 0, ip: int = 0) -> CodeLimits:
    """Return limits on failures at all recipients."""
    return replace(NO_LIMITS, client_failures=client, ip_failures=ip)


CLIENT, PLACE = limits(client=17), limits(ip=17)


@pytest.mark.parametrize("together", [1, 25])
@pytest.mark.parametrize("allowed", [CLIENT, PLACE], ids=["client", "ip"])
async def test_so_many_failures_at_all_recipients(
    replicas: Sequence[Asking], database: Database, allowed: CodeLimits, together: int
) -> None:
    """Of 200 guesses at once, at 20 recipients and 3 replicas, exactly the allowed are counted.

    The others count for no challenge and no recipient. Guesses at no challenge count as well, so
    that a refusal does not show whether there is a challenge.
    """
    for scope in PEOPLE[::2]:
        await replicas[0].challenge(scope)
    made = [replicas[0].made(scope, limits=allowed.of_guess(scope, IP)) for scope in PEOPLE * 10]
    calls = [made[first : first + together] for first in range(0, 200, together)]

    async def guessed(asking: Asking, call: Sequence[Guess]) -> Sequence[GuessDecision]:
        return await asyncio.gather(*map(asking.store.guess, call))

    answers = await asyncio.gather(
        *(guessed(replicas[number % 3], call) for number, call in enumerate(calls))
    )
    judged = [each for answer in answers for each in answer]
    counted = [each for each in judged if isinstance(each, CountedGuess)]

    assert len(counted) == 17
    assert 0 < sum(each.challenge is not None for each in counted) < 17
    assert await rows(database, guesses) == 17


async def test_failures_leave_the_window(free: Asking, clock: Clock) -> None:
    """A failure counts for a day and at most an hour more; a refusal has the time until then."""
    clock.seconds += -clock.seconds % HOUR
    allowed = limits(client=2).of_guess(ANNA, None)
    first = await free.judged(ANNA, limits=allowed)
    clock.seconds += 10 * HOUR
    second = await free.judged(ANNA, limits=allowed)
    held = await free.judged(ANNA, limits=allowed)
    clock.seconds += 15 * HOUR - 0.001
    late = await free.judged(ANNA, limits=allowed)
    clock.seconds += 0.001
    after = [await free.judged(ANNA, limits=allowed) for _ in range(2)]

    assert (type(first), type(second)) == (CountedGuess, CountedGuess)
    assert (held, late) == (UncheckedGuess(15 * HOUR * 1000), UncheckedGuess(1))
    assert [type(each) for each in after] == [CountedGuess, UncheckedGuess]


async def test_the_failure_of_a_right_code_is_given_back(
    free: Asking, replica: Asking, database: Database
) -> None:
    """A right guess is no failure, whether it is repeated or not."""
    allowed = limits(client=2, ip=2).of_guess(ANNA, IP)
    assert isinstance(await free.judged(PEOPLE[0], limits=allowed), CountedGuess)
    for number in range(5):
        challenge = await free.challenge(ANNA)
        judged = await free.judged(ANNA, f"request-{number}", limits=allowed)
        assert isinstance(judged, CountedGuess)
        for asking in (free, replica, free):
            again = await asking.judged(ANNA, f"request-{number}", limits=allowed)
            assert again == judged
            assert await asking.store.use(CodeUse(again, challenge))

    assert isinstance(await free.judged(ANNA, limits=allowed), CountedGuess)
    assert isinstance(await free.judged(ANNA, limits=allowed), UncheckedGuess)
    assert await rows(database, failures) == 2


async def test_the_failure_of_a_late_right_code_is_kept(free: Asking) -> None:
    """Of several right guesses at one challenge, all but the first are failures."""
    allowed = limits(client=2).of_guess(ANNA, None)
    challenge = await free.challenge(ANNA)
    both = [await free.judged(ANNA, limits=allowed) for _ in range(2)]
    uses = [CodeUse(each, challenge) for each in both if isinstance(each, CountedGuess)]
    used = [await free.store.use(each) for each in uses]
    more = [await free.judged(ANNA, limits=allowed) for _ in range(2)]

    assert used == [True, False]
    assert [type(each) for each in more] == [CountedGuess, UncheckedGuess]


async def test_client_and_address_are_limited_on_their_own(free: Asking) -> None:
    """A limit on clients and one on addresses hold each for itself, and not for the pair."""
    allowed = limits(client=2, ip=3)
    shop, bank = ANNA, replace(ANNA, client="bank")
    other = IPv4Address("192.0.2.8")

    async def passes(scope: CodeScope, ip: IPv4Address | None) -> bool:
        judged = await free.judged(scope, limits=allowed.of_guess(scope, ip))
        return isinstance(judged, CountedGuess)

    assert [await passes(shop, IP) for _ in range(3)] == [True, True, False]
    assert not await passes(shop, other)
    assert not await passes(shop, None)
    assert [await passes(bank, IP) for _ in range(2)] == [True, False]
    assert await passes(bank, other)
    assert not await passes(bank, None)


async def test_an_answered_guess_stays_answered(free: Asking) -> None:
    """A request that was answered before a limit was reached has its old answer after it."""
    allowed = limits(client=1).of_guess(ANNA, None)
    challenge = await free.challenge(ANNA)
    first = await free.judged(ANNA, "request-1", limits=allowed)
    held = [await free.judged(ANNA, "request-2", limits=allowed) for _ in range(2)]
    again = await free.judged(ANNA, "request-1", limits=allowed)

    assert isinstance(first, CountedGuess)
    assert first.challenge == challenge
    assert again == first
    assert all(isinstance(each, UncheckedGuess) for each in held)


async def test_a_refused_guess_is_a_first_guess_later(free: Asking, clock: Clock) -> None:
    """A refused guess is not counted: repeated after the limit has passed, it is a first guess."""
    allowed = limits(client=1).of_guess(ANNA, None)
    await free.judged(ANNA, limits=allowed)
    assert isinstance(await free.judged(ANNA, "request-2", limits=allowed), UncheckedGuess)
    clock.seconds += 25 * HOUR
    challenge = await free.challenge(ANNA)
    judged = await free.judged(ANNA, "request-2", limits=allowed)

    assert isinstance(judged, CountedGuess)
    assert judged.challenge == challenge


async def test_a_clock_put_back_forgives_no_failure(free: Asking, clock: Clock) -> None:
    """Failures of a future hour count, so that a clock put back forgives none."""
    allowed = limits(client=1).of_guess(ANNA, None)
    await free.judged(ANNA, limits=allowed)
    clock.seconds -= HOUR

    assert isinstance(await free.judged(ANNA, limits=allowed), UncheckedGuess)
