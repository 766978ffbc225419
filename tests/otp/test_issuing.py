"""Requests for codes: one challenge alive, each request answered once, no mail too many."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
import sqlalchemy as sa

from services.otp.codes import Challenge, CodeGenerator, CodeScope, NewChallenge
from services.otp.guessing import GuessBudget
from services.otp.issuing import Issued, Issuer, IssueRefused, IssueRequest, alive
from services.otp.limits import DAY_MS, HOUR_MS, MINUTE_MS, CodeLimits, Limit, WindowCounter
from services.otp.sql import commands, mails
from services.otp.store import ChallengeStore
from shared.contracts import Withholding
from shared.storage.database import Database
from tests.clock import Clock
from tests.otp.asking import ANNA, NO_LIMITS, POLICY, Asking, rows

NOW = 1_900_000_000_000
KEY = min(POLICY.key_ids)
FIVE = Limit("recipient/anna@example.com", 5, HOUR_MS)
CHALLENGE = Challenge("old", ANNA, bytes(16), KEY, 6, NOW, NOW + 600_000, NOW)


def request(number: int, *limits: Limit) -> IssueRequest:
    """Return a request for Anna."""
    return IssueRequest(
        f"command-{number}", NewChallenge(f"new-{number}", ANNA, bytes(16), KEY, 8), limits
    )


def an_issuer(now: int, *standing: Challenge, sent: int = 0) -> Issuer:
    """Return an issuer with these challenges, and with mails sent in this minute."""
    rows = [(FIVE.subject, now // MINUTE_MS, sent)]
    return Issuer(POLICY, now, {each.scope: each for each in standing}, WindowCounter(rows, now))


def test_a_new_challenge() -> None:
    """A scope without a challenge has the new one, for the lifetime from now."""
    issuer = an_issuer(NOW)
    made = Challenge("new-1", ANNA, bytes(16), KEY, 8, NOW, NOW + 600_000, NOW)

    assert issuer.decide(request(1)) == Issued(made, NOW, NOW + 60_000, 600_000)
    assert issuer.made == [made]


def test_a_resend_repeats() -> None:
    """After the cooldown the same challenge is mailed again, with its old expiry and length."""
    now = NOW + 60_000
    issuer = an_issuer(now, CHALLENGE)
    mailed = replace(CHALLENGE, mailed_at=now)

    assert issuer.decide(request(1)) == Issued(mailed, now, now + 60_000, 540_000)
    assert issuer.made == []
    assert issuer.mailed == {"old"}


def test_another_spelling_is_as_early() -> None:
    """Another spelling of the address has the same cooldown, and another code.

    Issue 10, A12.
    """
    loud = CodeScope(ANNA.client, ANNA.purpose, "ANNA@example.com")
    command = IssueRequest("loud", NewChallenge("new", loud, bytes(16), KEY, 8), ())

    assert an_issuer(NOW, CHALLENGE).decide(command) == IssueRefused(Withholding.COOLDOWN, 60_000)
    later = an_issuer(NOW + 60_000, CHALLENGE)
    answer = later.decide(command)
    assert isinstance(answer, Issued)
    assert answer.challenge.scope == loud
    assert later.decide(request(1)) == IssueRefused(Withholding.COOLDOWN, 60_000)


def test_another_purpose_has_a_cooldown_of_its_own() -> None:
    """Another client or purpose has a cooldown of its own."""
    other = replace(ANNA, purpose="pay")
    command = IssueRequest("other", NewChallenge("new", other, bytes(16), KEY, 8), ())

    assert isinstance(an_issuer(NOW, CHALLENGE).decide(command), Issued)


@pytest.mark.parametrize("after", [0, 1, 59_999])
def test_too_early(after: int) -> None:
    """Within the cooldown nothing is mailed, and the answer has the time to wait."""
    issuer = an_issuer(NOW + after, CHALLENGE)

    assert issuer.decide(request(1, FIVE)) == IssueRefused(Withholding.COOLDOWN, 60_000 - after)
    assert issuer.mails.added == {}
    assert issuer.mailed == set()


def test_at_once_one_is_mailed() -> None:
    """Of requests at once the first one is mailed; the others are too early."""
    issuer = an_issuer(NOW)
    answers = [issuer.decide(request(number)) for number in range(3)]

    assert [type(answer) for answer in answers] == [Issued, IssueRefused, IssueRefused]


def test_resend_at_is_not_after_the_expiry() -> None:
    """A challenge that ends within the cooldown may be replaced at its end."""
    now = NOW + 570_000
    answer = an_issuer(now, CHALLENGE).decide(request(1))

    assert isinstance(answer, Issued)
    assert answer.resend_at == CHALLENGE.expires_at


def test_over_a_limit() -> None:
    """Past a limit nothing is mailed, and the answer has the time to wait."""
    issuer = an_issuer(NOW, sent=5)
    answer = issuer.decide(request(1, FIVE))

    assert answer == IssueRefused(Withholding.LIMIT, 61 * MINUTE_MS - NOW % MINUTE_MS)
    assert issuer.made == []


def test_the_longer_wait_is_returned() -> None:
    """Of cooldown and limit, the answer has the longer wait."""
    issuer = an_issuer(NOW, CHALLENGE, sent=5)

    assert issuer.decide(request(1, FIVE)) == IssueRefused(
        Withholding.LIMIT, 61 * MINUTE_MS - NOW % MINUTE_MS
    )


def test_two_limits_on_one_subject_count_once() -> None:
    """A mail is one mail, however many limits there are on its recipient."""
    issuer = an_issuer(NOW)
    issuer.decide(request(1, FIVE, replace(FIVE, count=10, window_ms=DAY_MS)))

    assert issuer.mails.added == {FIVE.subject: 1}


def test_no_request_waits_for_a_time_of_a_clock_put_back() -> None:
    """A mail of the future, from before the clock was put back, delays no other mail."""
    issuer = an_issuer(NOW, replace(CHALLENGE, created_at=NOW - 1, mailed_at=NOW + 3_600_000))

    assert isinstance(issuer.decide(request(1)), Issued)


@pytest.mark.parametrize(
    ("challenge", "now", "guesses", "expected"),
    [
        (CHALLENGE, NOW, 4, True),
        (CHALLENGE, NOW, 5, False),
        (CHALLENGE, NOW + 600_000, 0, False),
        (CHALLENGE, NOW - 3_600_000, 0, False),
        (replace(CHALLENGE, key_id="withdrawn"), NOW, 0, False),
    ],
    ids=["alive", "exhausted", "expired", "of the future", "without its key"],
)
def test_alive(challenge: Challenge, now: int, guesses: int, *, expected: bool) -> None:
    """Only a code that can still be right is mailed again."""
    left = GuessBudget(POLICY, [("anna@example.com", "old", False, guesses)])

    assert (ANNA in alive(POLICY, now, [challenge], left)) is expected


async def test_asking_again_repeats(asking: Asking, clock: Clock) -> None:
    """While a challenge lives, a request has the same challenge with the same expiry."""
    first = await asking.challenge(ANNA)
    clock.seconds += 300
    second = await asking.challenge(ANNA, digits=8)

    assert replace(second, mailed_at=first.mailed_at) == first
    assert first.expires_at == (clock.seconds + 300) * 1000


async def test_not_sooner_than_the_cooldown(asking: Asking, clock: Clock) -> None:
    """Within the cooldown of the last mail nothing is mailed; each mail begins a new one."""
    await asking.issue(ANNA)
    clock.seconds += 59
    early = await asking.issue(ANNA)
    clock.seconds += 1
    resent = await asking.issue(ANNA)
    clock.seconds += 59
    again = await asking.issue(ANNA)

    assert early == again == IssueRefused(Withholding.COOLDOWN, 1000)
    assert isinstance(resent, Issued)
    assert resent.resend_at == (clock.seconds + 1) * 1000


async def test_another_scope_has_another_challenge(free: Asking) -> None:
    """A challenge belongs to one client, one purpose and one address."""
    scopes = (
        ANNA,
        replace(ANNA, client="bank"),
        replace(ANNA, client=""),
        replace(ANNA, purpose="confirm-address"),
        replace(ANNA, email="ben@example.com"),
        replace(ANNA, email="Anna@example.com"),
    )
    issued = [await free.challenge(scope) for scope in scopes]

    assert len({challenge.id for challenge in issued}) == len(scopes)
    assert [challenge.scope for challenge in issued] == list(scopes)


async def test_asked_at_once_there_is_one(free: Asking, replica: Asking) -> None:
    """Requests at once, at two replicas, make one challenge."""
    both = (free, replica)
    issued = await asyncio.gather(*(both[number % 2].challenge(ANNA) for number in range(20)))

    assert len({challenge.id for challenge in issued}) == 1


async def test_asked_at_once_one_is_mailed(database: Database, asking: Asking) -> None:
    """Of requests at once, at two stores, one is mailed and the others are too early."""
    both = (asking, Asking(ChallengeStore(database, POLICY, asking.store._clock)))
    issued = await asyncio.gather(*(both[number % 2].issue(ANNA) for number in range(20)))

    assert sum(isinstance(answer, Issued) for answer in issued) == 1


async def test_the_same_command_gets_the_same(asking: Asking, clock: Clock) -> None:
    """A repeated command has its first answer, also when its challenge has ended."""
    first = await asking.issue(ANNA, "command-1")
    early = await asking.issue(ANNA, "command-2")
    assert isinstance(first, Issued)
    await asking.use(first.challenge)
    second = await asking.issue(ANNA, "command-3")
    clock.seconds += 3600
    third = await asking.issue(ANNA, "command-4")
    copies = [await asking.issue(ANNA, f"command-{number}") for number in range(1, 5)]

    assert isinstance(second, Issued)
    assert isinstance(third, Issued)
    assert len({first.challenge.id, second.challenge.id, third.challenge.id}) == 3
    gone = 3_600_000
    assert copies == [
        replace(first, left=first.left - gone),
        early,
        replace(second, left=second.left - gone),
        third,
    ]


async def test_copies_of_a_command_count_once(free: Asking, database: Database) -> None:
    """Copies of a command, at once or late, are one mail."""
    both = await asyncio.gather(*(free.issue(ANNA, "command-1") for _ in range(5)))
    late = await free.issue(ANNA, "command-1")

    assert both == [late] * 5
    assert await database.read(lambda c: c.scalar(sa.select(sa.func.sum(mails.c.sent)))) is None
    assert await rows(database, commands) == 1


async def test_the_dead_are_replaced(free: Asking, clock: Clock) -> None:
    """After use, expiry, exhaustion or cancellation a new challenge starts."""
    used = await free.challenge(ANNA)
    await free.use(used)
    expired = await free.challenge(ANNA)
    clock.seconds += 600
    exhausted = await free.challenge(ANNA)
    await free.guesses(ANNA, 5)
    cancelled = await free.challenge(ANNA)
    await free.store.cancel(cancelled.id, ANNA.client)
    alive = await free.challenge(ANNA)

    assert len({each.id for each in (used, expired, exhausted, cancelled, alive)}) == 5
    assert await free.guess(ANNA) == alive


async def test_a_new_code_has_no_cooldown(asking: Asking) -> None:
    """The cooldown is between two mails of one code."""
    used = await asking.challenge(ANNA)
    await asking.use(used)

    assert isinstance(await asking.issue(ANNA), Issued)


async def test_a_withdrawn_key_ends_its_challenges(
    database: Database, asking: Asking, clock: Clock
) -> None:
    """A challenge whose key was taken away is replaced at once, for its own command too."""
    old = await asking.challenge(ANNA, "command-1")
    generator = CodeGenerator([bytes([1] * 32)])
    store = ChallengeStore(database, replace(POLICY, key_ids=generator.key_ids), clock)
    rotated = Asking(store, generator)
    new = await rotated.challenge(ANNA, "command-1")

    assert new.id != old.id
    assert new.key_id in generator.key_ids
    assert await rotated.challenge(ANNA, "command-1") == new


@pytest.mark.parametrize(
    ("limits", "scopes", "minutes"),
    [
        (replace(NO_LIMITS, recipient_hourly=3), [ANNA, replace(ANNA, client="bank")], 61),
        (replace(NO_LIMITS, recipient_hourly=3), [ANNA, replace(ANNA, purpose="reset")], 61),
        (replace(NO_LIMITS, recipient_hourly=3), [replace(ANNA, email="ANNA@EXAMPLE.COM")], 61),
        (replace(NO_LIMITS, recipient_daily=3), [ANNA], 24 * 60 + 1),
        (replace(NO_LIMITS, client_hourly=3), [ANNA, replace(ANNA, email="b@x.example")], 61),
        (replace(NO_LIMITS, ip_hourly=3), [ANNA, replace(ANNA, email="b@x.example")], 61),
        (replace(NO_LIMITS, domain_hourly=3), [ANNA, replace(ANNA, email="b@example.com")], 61),
        (replace(NO_LIMITS, total_hourly=3), [ANNA, CodeScope("", "x", "b@x.example")], 61),
    ],
    ids=["recipient", "purposes", "spelling", "day", "client", "ip", "domain", "all"],
)
async def test_limits(
    free: Asking, clock: Clock, limits: CodeLimits, scopes: Sequence[CodeScope], minutes: int
) -> None:
    """No more mails are sent than a limit allows, and then the answer has the time to wait."""
    clock.seconds += -clock.seconds % 60
    for number in range(3):
        assert isinstance(await free.issue(scopes[number % len(scopes)], limits=limits), Issued)
    withheld = await free.issue(scopes[-1], limits=limits)
    clock.seconds += minutes * 60 - 0.001
    late = await free.issue(scopes[-1], limits=limits)
    clock.seconds += 0.001

    assert withheld == IssueRefused(Withholding.LIMIT, minutes * 60_000)
    assert late == IssueRefused(Withholding.LIMIT, 1)
    assert isinstance(await free.issue(scopes[-1], limits=limits), Issued)


async def test_limits_hold_for_all_replicas(free: Asking, replica: Asking) -> None:
    """Of requests at once, at two replicas, no more are mailed than a limit allows."""
    both, limits = (free, replica), replace(NO_LIMITS, total_hourly=10)
    scopes = [replace(ANNA, email=f"{number}@example.com") for number in range(40)]
    issued = await asyncio.gather(
        *(both[n % 2].issue(scope, limits=limits) for n, scope in enumerate(scopes))
    )

    assert sum(isinstance(answer, Issued) for answer in issued) == 10
