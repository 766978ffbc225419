"""Guesses in both databases: counted before they are compared, right at most once."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from uuid import uuid4

import pytest
import sqlalchemy as sa

from services.otp.allowance import CountedGuess, UncheckedGuess
from services.otp.challenge import CodeScope
from services.otp.guesses import CodeUse
from services.otp.limits import CodeLimits
from services.otp.tables import failures, guesses
from shared.storage.database import Database
from tests.clock import Clock
from tests.otp.asking import ANNA, BOOK, IP, NO_LIMITS, Asking, rows

HOUR, DAY = 3600, 86_400  # seconds
PEOPLE = [replace(ANNA, email=f"{number}@example.com") for number in range(20)]


async def test_nothing_to_guess(asking: Asking, clock: Clock) -> None:
    """Unknown, expired, used and cancelled alike there is nothing to compare with."""
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
    """A guess whose comparison never comes is counted all the same: a crash gives none back."""
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
    """Whoever is attacked locks out nobody else."""
    for _ in range(6):
        await free.challenge(ANNA)
        await free.guesses(ANNA, 5)
    ben = replace(ANNA, email="ben@example.com")
    await free.challenge(ben)
    await free.challenge(ANNA)

    assert await free.guess(ANNA) is None
    assert await free.guess(ben) is not None


async def test_what_was_right_is_no_failure(free: Asking) -> None:
    """Whoever types 40 right codes in a day can type the next."""
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
    """The request that used a challenge finds it used by itself, ten copies at once too."""
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
    """A request gets the challenge that it was about, or none, though a newer one is alive."""
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
    """Failures of a time that is to come count."""
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
    """They are one guess, known before or not, and each is told the same."""
    challenge = await asking.challenge(ANNA)
    old = asking.made(ANNA)
    await asking.together([old])
    new = asking.made(ANNA)

    assert await asking.together([new, old, new, old]) == [challenge] * 4
    assert await asking.guesses(ANNA, 10) == 3


async def test_right_answers_in_one_call(free: Asking, database: Database) -> None:
    """Each challenge is used by one of them, which is given its failure back, and no other is."""
    allowed = limits(client=100).of_guess(ANNA, None)
    challenges = [await free.challenge(scope) for scope in PEOPLE]
    uses = [
        CodeUse(judged, challenge)
        for challenge in challenges * 3
        if isinstance(judged := await free.judged(challenge.scope, limits=allowed), CountedGuess)
    ]
    used = await free.store.use(uses)
    again = await free.store.use(uses)

    assert used == again
    assert Counter(use.challenge.id for use in uses if use.guess.id in used) == Counter(
        challenge.id for challenge in challenges
    )
    total = sa.select(sa.func.sum(failures.c.failed))
    assert await database.read(lambda connection: connection.scalar(total)) == 40


async def test_right_answers_at_once(replicas: Sequence[Asking]) -> None:
    """Of 100 right answers at once, at 3 replicas, exactly one is verified."""
    challenge = await replicas[0].challenge(ANNA)

    async def verified(asking: Asking) -> bool:
        request, code = uuid4().hex, BOOK.code(challenge)
        found = await asking.guess(ANNA, request, code)
        right = BOOK.is_right(found, code)
        return found is not None and right and await asking.use(found, request, code)

    answers = await asyncio.gather(*(verified(replicas[number % 3]) for number in range(100)))

    assert answers.count(True) == 1


def limits(client: int = 0, ip: int = 0) -> CodeLimits:
    """Give limits on failures at all recipients."""
    return replace(NO_LIMITS, client_failures=client, ip_failures=ip)


CLIENT, PLACE = limits(client=17), limits(ip=17)


@pytest.mark.parametrize("together", [1, 25])
@pytest.mark.parametrize("allowed", [CLIENT, PLACE], ids=["client", "ip"])
async def test_so_many_failures_at_all_recipients(
    replicas: Sequence[Asking], database: Database, allowed: CodeLimits, together: int
) -> None:
    """Of 200 guesses at once, at 20 recipients and 3 replicas, exactly the allowed are counted.

    The others leave no trace at any challenge or recipient. Those at nothing count as well: who is
    told to wait learns nothing of whom he guessed at.
    """
    for scope in PEOPLE[::2]:
        await replicas[0].challenge(scope)
    made = [replicas[0].made(scope, limits=allowed.of_guess(scope, IP)) for scope in PEOPLE * 10]
    calls = [made[first : first + together] for first in range(0, 200, together)]
    answers = await asyncio.gather(
        *(replicas[number % 3].store.guess(call) for number, call in enumerate(calls))
    )
    judged = [each for answer in answers for each in answer]
    counted = [each for each in judged if isinstance(each, CountedGuess)]

    assert len(counted) == 17
    assert 0 < sum(each.challenge is not None for each in counted) < 17
    assert await rows(database, guesses) == 17


async def test_failures_leave_the_window(free: Asking, clock: Clock) -> None:
    """A failure counts for a day, and at most an hour longer; then it is told when to come."""
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


async def test_what_was_right_is_given_back(
    free: Asking, replica: Asking, database: Database
) -> None:
    """Right codes of any number are no failures, asked for again or not, and each counts once."""
    allowed = limits(client=2, ip=2).of_guess(ANNA, IP)
    assert isinstance(await free.judged(PEOPLE[0], limits=allowed), CountedGuess)
    for number in range(5):
        challenge = await free.challenge(ANNA)
        judged = await free.judged(ANNA, f"request-{number}", limits=allowed)
        assert isinstance(judged, CountedGuess)
        for asking in (free, replica, free):
            again = await asking.judged(ANNA, f"request-{number}", limits=allowed)
            assert again == judged
            assert await asking.store.use([CodeUse(again, challenge)]) == {again.id}

    assert isinstance(await free.judged(ANNA, limits=allowed), CountedGuess)
    assert isinstance(await free.judged(ANNA, limits=allowed), UncheckedGuess)
    assert await rows(database, failures) == 2


async def test_what_was_right_too_late_is_not_given_back(free: Asking) -> None:
    """Of right answers at once all but one are failures."""
    allowed = limits(client=2).of_guess(ANNA, None)
    challenge = await free.challenge(ANNA)
    both = [await free.judged(ANNA, limits=allowed) for _ in range(2)]
    uses = [CodeUse(each, challenge) for each in both if isinstance(each, CountedGuess)]
    used = [await free.store.use([each]) for each in uses]
    more = [await free.judged(ANNA, limits=allowed) for _ in range(2)]

    assert used == [{uses[0].guess.id}, {uses[0].guess.id}]
    assert [type(each) for each in more] == [CountedGuess, UncheckedGuess]


async def test_client_and_address_are_limited_on_their_own(free: Asking) -> None:
    """Neither is a way around the other, and neither locks out whoever shares the other alone."""
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
    """Past a limit a request that was answered before it gets its old answer."""
    allowed = limits(client=1).of_guess(ANNA, None)
    challenge = await free.challenge(ANNA)
    first = await free.judged(ANNA, "request-1", limits=allowed)
    held = [await free.judged(ANNA, "request-2", limits=allowed) for _ in range(2)]
    again = await free.judged(ANNA, "request-1", limits=allowed)

    assert isinstance(first, CountedGuess)
    assert first.challenge == challenge
    assert again == first
    assert all(isinstance(each, UncheckedGuess) for each in held)


async def test_what_was_held_back_may_be_asked_later(free: Asking, clock: Clock) -> None:
    """It was not counted, so that the same request is a first guess once there is room."""
    allowed = limits(client=1).of_guess(ANNA, None)
    await free.judged(ANNA, limits=allowed)
    assert isinstance(await free.judged(ANNA, "request-2", limits=allowed), UncheckedGuess)
    clock.seconds += 25 * HOUR
    challenge = await free.challenge(ANNA)
    judged = await free.judged(ANNA, "request-2", limits=allowed)

    assert isinstance(judged, CountedGuess)
    assert judged.challenge == challenge


async def test_a_clock_put_back_forgives_no_failure(free: Asking, clock: Clock) -> None:
    """Failures of an hour that is to come count."""
    allowed = limits(client=1).of_guess(ANNA, None)
    await free.judged(ANNA, limits=allowed)
    clock.seconds -= HOUR

    assert isinstance(await free.judged(ANNA, limits=allowed), UncheckedGuess)
