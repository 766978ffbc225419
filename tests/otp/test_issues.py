"""Commands in both databases: one challenge alive, each answered once, no mail too many."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
import sqlalchemy as sa

from services.otp.challenge import CodeScope
from services.otp.codes import CodeGenerator
from services.otp.issuance import Issued, IssueRefused
from services.otp.limits import CodeLimits
from services.otp.store import ChallengeStore
from services.otp.tables import commands, mails
from shared.contracts import Withholding
from shared.storage.database import Database
from tests.clock import Clock
from tests.otp.asking import ANNA, NO_LIMITS, RULES, Asking, rows

HOUR, DAY = 3600, 86_400  # seconds


async def test_asking_again_repeats(asking: Asking, clock: Clock) -> None:
    """While a challenge lives, asking again gives it again, with the same expiry."""
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


async def test_another_holder_has_another_challenge(free: Asking) -> None:
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
    """Commands that arrive at once, at two replicas, make one challenge."""
    both = (free, replica)
    issued = await asyncio.gather(*(both[number % 2].challenge(ANNA) for number in range(20)))

    assert len({challenge.id for challenge in issued}) == 1


async def test_asked_at_once_one_is_mailed(database: Database, asking: Asking) -> None:
    """Of commands that arrive at once, at two stores, one is mailed and the others too early."""
    both = (asking, Asking(ChallengeStore(database, RULES, asking.store._clock)))
    issued = await asyncio.gather(*(both[number % 2].issue(ANNA) for number in range(20)))

    assert sum(isinstance(answer, Issued) for answer in issued) == 1


async def test_the_same_command_gets_the_same(asking: Asking, clock: Clock) -> None:
    """A command that comes again gets its own answer, also when its challenge is dead."""
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
    """A command that comes twice, at once too, is one mail."""
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


async def test_whoever_needs_a_new_code_does_not_wait(asking: Asking) -> None:
    """The cooldown is between two mails of one code."""
    used = await asking.challenge(ANNA)
    await asking.use(used)

    assert isinstance(await asking.issue(ANNA), Issued)


async def test_a_withdrawn_key_ends_its_challenges(
    database: Database, asking: Asking, clock: Clock
) -> None:
    """A challenge whose key was taken away is replaced at once, for its own command too."""
    old = await asking.challenge(ANNA, "command-1")
    book = CodeGenerator([bytes([1] * 32)])
    store = ChallengeStore(database, replace(RULES, key_ids=book.key_ids), clock)
    rotated = Asking(store, book)
    new = await rotated.challenge(ANNA, "command-1")

    assert new.id != old.id
    assert new.key_id in book.key_ids
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
    """So many mails are sent in an hour or a day and no more; then it is told when they may be."""
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
    """Of commands that arrive at once, at two replicas, no more are mailed than a limit says."""
    both, limits = (free, replica), replace(NO_LIMITS, total_hourly=10)
    scopes = [replace(ANNA, email=f"{number}@example.com") for number in range(40)]
    issued = await asyncio.gather(
        *(both[n % 2].issue(scope, limits=limits) for n, scope in enumerate(scopes))
    )

    assert sum(isinstance(answer, Issued) for answer in issued) == 10
