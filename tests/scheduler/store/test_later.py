"""Mails for later in both databases: kept once, moved, cancelled, taken by one scheduler."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from services.scheduler.service import MIGRATIONS
from services.scheduler.store.due import Leases, moment
from services.scheduler.store.later import LaterStore
from shared.contracts import Category, SendEmail
from tests.clock import Clock
from tests.databases import Opener

LEASE_SECONDS = 60.0
HOUR_SECONDS = 3600.0


@pytest.fixture
async def stores(open_database: Opener, clock: Clock) -> Sequence[LaterStore]:
    """Return the stores of two schedulers."""
    return [
        LaterStore(
            await open_database("scheduler", MIGRATIONS),
            Leases(timedelta(seconds=LEASE_SECONDS)),
            clock,
        )
        for _ in range(2)
    ]


def later(clock: Clock, seconds: float = HOUR_SECONDS, subject: str = "first") -> SendEmail:
    """Return a mail that is due in so many seconds."""
    at = moment(round((clock.seconds + seconds) * 1000))
    return SendEmail(
        id="m1",
        client="shop",
        category=Category.TRANSACTIONAL,
        to=("ann@example.org",),
        subject=subject,
        text="Hello",
        created_at=moment(round(clock.seconds * 1000)),
        scheduled_at=at,
    )


async def taken(store: LaterStore) -> list[tuple[str, bool, str | None]]:
    """Return what a scheduler takes: the id, whether it is cancelled, the subject."""
    _, found = await store.take(10)
    return [
        (each.email_id, each.cancelled, each.command.subject if each.command else None)
        for each in found
    ]


async def test_a_mail_is_kept_once(stores: Sequence[LaterStore], clock: Clock) -> None:
    """A second command of its id changes nothing, and it is due at its time."""
    await stores[0].keep(later(clock))
    await stores[1].keep(later(clock, 0.0, "second"))
    early = await taken(stores[0])
    clock.seconds += HOUR_SECONDS

    assert early == []
    assert await taken(stores[1]) == [("m1", False, "first")]


async def test_a_mail_that_is_taken_stays_with_one_scheduler(
    stores: Sequence[LaterStore], clock: Clock
) -> None:
    """Until its lease is over no other one has it, moves it or cancels it; then it may."""
    await stores[0].keep(later(clock, 0.0))
    token, [mail] = await stores[0].take(10)
    at = moment(round(clock.seconds * 1000)) + timedelta(hours=1)

    assert await taken(stores[1]) == []
    assert not await stores[1].reschedule("shop", "m1", at)
    assert not await stores[1].unschedule("shop", "m1")
    clock.seconds += LEASE_SECONDS
    again, found = await stores[1].take(10)
    await stores[0].remove(token, [mail])
    clock.seconds += LEASE_SECONDS
    assert len(await taken(stores[0])) == 1
    await stores[1].remove(again, found)
    clock.seconds += LEASE_SECONDS
    assert len(await taken(stores[0])) == 1


async def test_a_mail_that_was_sent_is_gone(stores: Sequence[LaterStore], clock: Clock) -> None:
    """It is due no more, and has no other time."""
    await stores[0].keep(later(clock, 0.0))
    token, found = await stores[0].take(10)
    await stores[0].remove(token, found)
    clock.seconds += HOUR_SECONDS

    assert await taken(stores[1]) == []
    assert not await stores[1].reschedule("shop", "m1", moment(0))


async def test_another_time(stores: Sequence[LaterStore], clock: Clock) -> None:
    """A mail is due at its new time alone, and only its client moves it."""
    await stores[0].keep(later(clock))
    at = moment(round((clock.seconds + 2 * HOUR_SECONDS) * 1000))
    moved = [await stores[1].reschedule(client, "m1", at) for client in ("other", None, "shop")]
    clock.seconds += HOUR_SECONDS
    early = await taken(stores[0])
    clock.seconds += HOUR_SECONDS

    assert (moved, early) == ([False, False, True], [])
    assert await taken(stores[0]) == [("m1", False, "first")]


async def test_a_cancelled_mail_is_reported_at_once(
    stores: Sequence[LaterStore], clock: Clock
) -> None:
    """It is due now, as cancelled, and cannot be moved any more."""
    await stores[0].keep(later(clock))
    done = await stores[1].unschedule("shop", "m1")
    moved = await stores[1].reschedule("shop", "m1", moment(0))

    assert (done, moved) == (True, False)
    assert await taken(stores[0]) == [("m1", True, "first")]


async def test_a_mail_is_cancelled_before_it_comes(
    stores: Sequence[LaterStore], clock: Clock
) -> None:
    """Its command may still be in the queue: when it comes it is reported, and not sent."""
    done = await stores[1].unschedule("shop", "m1")
    waiting = await taken(stores[0])
    await stores[0].keep(later(clock))

    assert (done, waiting) == (False, [])
    assert await taken(stores[0]) == [("m1", True, "first")]
