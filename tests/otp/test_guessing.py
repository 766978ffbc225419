"""Guesses in both databases: counted before they are compared, right at most once."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import pytest
import sqlalchemy as sa

from services.otp.codes import Challenge, CodeScope
from services.otp.guessing import CodeUse, CountedGuess, GuessBudget
from services.otp.sql import failures
from shared.storage.database import Database
from tests.clock import Clock
from tests.otp.asking import ANNA, GENERATOR, NO_LIMITS, PEOPLE, POLICY, Asking

HOUR, DAY = 3600, 86_400  # seconds


async def test_nothing_to_guess(asking: Asking, clock: Clock) -> None:
    """An unknown, expired, used or cancelled code leaves nothing to compare a guess with."""
    unknown = await asking.guess(ANNA)
    await asking.use(await asking.challenge(ANNA))
    used = await asking.guess(ANNA)
    challenge = await asking.challenge(ANNA)
    await asking.store.cancel(challenge.id, ANNA.client)
    cancelled = await asking.guess(ANNA)
    await asking.challenge(ANNA)
    clock.seconds += 600
    expired = await asking.guess(ANNA)

    assert (unknown, used, cancelled, expired) == (None, None, None, None)


async def test_so_many_guesses(asking: Asking, replica: Asking) -> None:
    """Of 50 guesses at once, at two replicas, five may be compared."""
    challenge = await asking.challenge(ANNA)
    both = (asking, replica)
    given = await asyncio.gather(*(both[number % 2].guess(ANNA) for number in range(50)))

    assert [found for found in given if found] == [challenge] * 5


async def test_a_guess_is_counted_before_it_is_given(asking: Asking, replica: Asking) -> None:
    """A guess that is never compared is counted all the same, so that a crash gives none back."""
    await asking.challenge(ANNA)
    await asking.guesses(ANNA, 5)

    assert await replica.guess(ANNA) is None


async def test_so_many_failures(free: Asking, clock: Clock) -> None:
    """A recipient has 30 failures in 24 hours, over all codes, clients, purposes, spellings."""
    scopes = [
        CodeScope(client, purpose, email)
        for client in ("shop", "bank")
        for purpose in ("sign-in", "reset")
        for email in (ANNA.email, "Anna@example.com")
    ]
    compared = 0
    for scope in scopes:
        await free.challenge(scope)
        compared += await free.guesses(scope, 10)
        clock.seconds += 1
    clock.seconds += DAY - len(scopes) - 0.001
    still = await free.challenge(ANNA), await free.guesses(ANNA, 10)
    clock.seconds += 0.001

    assert compared == 30
    assert still[1] == 0
    assert await free.guesses(ANNA, 10) == 5


async def test_failures_are_of_one_recipient(free: Asking) -> None:
    """The failures of one recipient do not lock out another."""
    for _ in range(6):
        await free.challenge(ANNA)
        await free.guesses(ANNA, 5)
    ben = replace(ANNA, email="ben@example.com")
    await free.challenge(ben)
    await free.challenge(ANNA)

    assert await free.guess(ANNA) is None
    assert await free.guess(ben) is not None


async def test_a_right_code_is_no_failure(free: Asking) -> None:
    """After 40 right guesses in a day the next one is right too."""
    for _ in range(40):
        await free.use(await free.challenge(ANNA))

    assert await free.use(await free.challenge(ANNA))


async def test_used_once(asking: Asking, replica: Asking) -> None:
    """Of 100 guesses that use a challenge at once, at two replicas, exactly one does."""
    challenge = await asking.challenge(ANNA)
    both = (asking, replica)
    used = await asyncio.gather(
        *(both[number % 2].use(challenge, f"{number}") for number in range(100))
    )

    assert used.count(True) == 1


async def test_the_user_may_ask_again(asking: Asking, replica: Asking) -> None:
    """Copies of the request that used a challenge have its result, ten at once too."""
    challenge = await asking.challenge(ANNA)
    both = (asking, replica)
    assert await asking.guess(ANNA, "request-1") == challenge
    assert await asking.use(challenge, "request-1")
    again = await asyncio.gather(
        *(both[number % 2].guess(ANNA, "request-1") for number in range(10))
    )
    used = await asyncio.gather(
        *(both[number % 2].use(challenge, "request-1") for number in range(10))
    )

    assert again == [challenge] * 10
    assert all(used)
    assert await asking.guess(ANNA, "request-2") is None
    assert await asking.use(challenge, "request-2") is False


async def test_copies_of_one_request_count_once(asking: Asking, replica: Asking) -> None:
    """Copies of one request, at once, at two replicas, are one guess, and so is a late one."""
    challenge = await asking.challenge(ANNA)
    both = (asking, replica)
    given = await asyncio.gather(
        *(both[number % 2].guess(ANNA, "request-1") for number in range(20))
    )

    assert given == [challenge] * 20
    assert await asking.guess(ANNA, "request-1") == challenge
    assert await asking.guesses(ANNA, 10) == 4


async def test_a_repeated_request_leaves_a_newer_challenge_alone(asking: Asking) -> None:
    """A repeated request is compared with its first challenge, or none, never with a newer one."""
    assert await asking.guess(ANNA, "request-0") is None
    old = await asking.challenge(ANNA)
    await asking.guess(ANNA, "request-1")
    await asking.use(old, "request-1")
    new = await asking.challenge(ANNA)

    assert await asking.guess(ANNA, "request-0") is None
    assert await asking.guess(ANNA, "request-1") == old
    assert [await asking.guess(ANNA, f"request-{n}") for n in range(2, 7)] == [new] * 5


async def test_too_late_to_use(asking: Asking, clock: Clock) -> None:
    """A guess that was counted in time does not use a challenge after its expiry."""
    challenge = await asking.challenge(ANNA)
    clock.seconds += 600

    assert await asking.use(challenge) is False


async def test_failures_outlast_a_clock_put_back(free: Asking, clock: Clock) -> None:
    """Failures of a future time count, so that a clock put back forgives none."""
    for _ in range(6):
        await free.challenge(ANNA)
        await free.guesses(ANNA, 5)
    clock.seconds -= HOUR
    await free.challenge(ANNA)

    assert await free.guess(ANNA) is None


@pytest.mark.parametrize("together", [1, 50])
@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (PEOPLE, 20 * 5),
        ([replace(ANNA, purpose=f"purpose-{number}") for number in range(20)], 30),
    ],
    ids=["20 recipients", "one recipient"],
)
async def test_guesses_at_once(
    replicas: Sequence[Asking], scopes: Sequence[CodeScope], allowed: int, together: int
) -> None:
    """Of 500 guesses at once, at 20 challenges and 3 replicas, exactly the allowed are compared.

    However many of them go into one call.
    """
    for scope in scopes:
        await replicas[0].challenge(scope)
    made = [replicas[0].made(scopes[number % 20]) for number in range(500)]
    calls = [made[first : first + together] for first in range(0, 500, together)]
    given = await asyncio.gather(
        *(replicas[number % 3].together(call) for number, call in enumerate(calls))
    )
    compared = Counter(challenge.id for each in given for challenge in each if challenge)

    assert compared.total() == allowed
    assert max(compared.values()) <= 5
    assert not any([await replicas[1].guess(scope) for scope in scopes])


async def test_copies_in_one_call_count_once(asking: Asking) -> None:
    """Copies of a guess at once are one guess with one decision, known before or not."""
    challenge = await asking.challenge(ANNA)
    old = asking.made(ANNA)
    await asking.together([old])
    new = asking.made(ANNA)

    assert await asking.together([new, old, new, old]) == [challenge] * 4
    assert await asking.guesses(ANNA, 10) == 3


async def test_right_answers_in_one_call(free: Asking, database: Database) -> None:
    """One right guess uses each challenge and is no failure; the others are failures."""
    allowed = replace(NO_LIMITS, client_failures=100).of_guess(ANNA, None)
    challenges = [await free.challenge(scope) for scope in PEOPLE]
    uses = [
        CodeUse(judged, challenge)
        for challenge in challenges * 3
        if isinstance(judged := await free.judged(challenge.scope, limits=allowed), CountedGuess)
    ]
    used = await asyncio.gather(*map(free.store.use, uses))
    again = await asyncio.gather(*map(free.store.use, uses))

    assert used == again
    assert Counter(
        use.challenge.id for use, is_used in zip(uses, used, strict=True) if is_used
    ) == (Counter(challenge.id for challenge in challenges))
    total = sa.select(sa.func.sum(failures.c.failed))
    assert await database.read(lambda connection: connection.scalar(total)) == 40


async def test_right_answers_at_once(replicas: Sequence[Asking]) -> None:
    """Of 100 right answers at once, at 3 replicas, exactly one is verified."""
    challenge = await replicas[0].challenge(ANNA)

    async def verified(asking: Asking) -> bool:
        request, code = uuid4().hex, GENERATOR.code(challenge)
        found = await asking.guess(ANNA, request, code)
        right = GENERATOR.is_right(found, code)
        return found is not None and right and await asking.use(found, request, code)

    answers = await asyncio.gather(*(verified(replicas[number % 3]) for number in range(100)))

    assert answers.count(True) == 1


def challenge(id_: str = "c-1", email: str = ANNA.email) -> Challenge:
    """Return a challenge."""
    return Challenge(id_, CodeScope("shop", id_, email), bytes(16), "key", 6, 0, 600_000, 0)


def past(challenge_id: str, count: int, *, verified: bool = False) -> tuple[str, str, bool, int]:
    """Return so many guesses of Anna's."""
    return (ANNA.email, challenge_id, verified, count)


def granted(budget: GuessBudget, asked: Challenge, guesses: int = 100) -> int:
    """Return how many of some guesses may be compared."""
    return sum(budget.grant(asked) is not None for _ in range(guesses))


def test_five_guesses_a_challenge() -> None:
    """Each challenge has five guesses of its own, those of the past counted."""
    budget = GuessBudget(POLICY, [past("c-1", 2), past("c-9", 5)])

    assert granted(budget, challenge("c-1")) == 3
    assert granted(budget, challenge("c-2")) == 5
    assert budget.is_exhausted("c-1")
    assert budget.is_exhausted("c-9")
    assert not budget.is_exhausted("c-3")


def test_thirty_failures_a_recipient() -> None:
    """After 30 failures no challenge of the recipient has a guess left, in any spelling."""
    budget = GuessBudget(POLICY, [past(f"old-{n}", 5) for n in range(5)])

    assert granted(budget, challenge("c-1")) == 5
    assert granted(budget, challenge("c-2")) == 0
    assert granted(budget, challenge("c-3", "ANNA@example.com")) == 0
    assert granted(budget, challenge("c-4", "ben@example.com")) == 5


def test_a_verified_code_is_no_failure() -> None:
    """A right guess is no failure of its recipient, and is a try of its challenge all the same."""
    budget = GuessBudget(POLICY, [past(f"old-{n}", 1, verified=True) for n in range(100)])

    assert granted(budget, challenge("c-1")) == 5
    assert granted(budget, challenge("old-1")) == 4


def test_without_a_challenge_nothing_counts() -> None:
    """Guesses at no challenge count for no recipient."""
    budget = GuessBudget(POLICY, [])

    assert all(budget.grant(None) is None for _ in range(100))
    assert granted(budget, challenge()) == 5


def test_the_challenge_is_given() -> None:
    """The challenge of a granted guess is returned, and None for a refused one."""
    budget = GuessBudget(replace(POLICY, tries=1), [])

    assert budget.grant(challenge()) == challenge()
    assert budget.grant(challenge()) is None
