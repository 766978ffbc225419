"""Mails for later in both databases: kept, changed, cancelled, taken, each once."""

import asyncio
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from services.scheduler.service import MIGRATIONS
from services.scheduler.store import tables
from services.scheduler.store.due import Leases, moment
from services.scheduler.store.later import (
    REMEMBER,
    REMEMBER_FORGOTTEN,
    DueMail,
    LaterStore,
)
from shared.contracts import SendEmail
from shared.runtime.sealing import AddressHasher
from tests.clock import Clock
from tests.databases import Opener

LEASE = timedelta(minutes=1)
DAY = 86_400
HASHERS = [AddressHasher(bytes([number]) * 32) for number in (1, 2)]
ANN, BOB, EVE = "ann@example.org", "bob@example.org", "Eve <eve@example.org>"


@pytest.fixture
async def store(open_database: Opener, clock: Clock) -> LaterStore:
    """Return the mails of one test."""
    return LaterStore(await open_database("scheduler", MIGRATIONS), Leases(LEASE), HASHERS, clock)


@pytest.fixture
async def other(open_database: Opener, clock: Clock) -> LaterStore:
    """Return the mails as another scheduler has them."""
    return LaterStore(await open_database("scheduler", MIGRATIONS), Leases(LEASE), HASHERS, clock)


def command(clock: Clock, seconds: float = DAY, **more: object) -> SendEmail:
    """Return a mail that is due so many seconds from now."""
    fields = {"id": "m1", "client": "shop", "to": ["ann@example.org"], "subject": "s", "text": "t"}
    at = moment(round((clock.seconds + seconds) * 1000))
    return SendEmail.model_validate({**fields, "scheduled_at": at, **more})


async def taken(store: LaterStore, *, finish: bool = True) -> list[tuple[str, bool, bool]]:
    """Claim what is due: the id of each mail, and whether it is cancelled and has its command."""
    token, found = await store.take(10)
    if finish:
        await store.finish(token, found)
    return [(each.email_id, each.cancelled, each.command is not None) for each in found]


SENT, CANCELLED = ("m1", False, True), ("m1", True, True)


async def test_a_mail_is_due_once_at_its_time(
    store: LaterStore, other: LaterStore, clock: Clock
) -> None:
    """Nobody gets it before, one scheduler gets it then, and a repeat of it is no second mail."""
    await store.keep(command(clock))
    assert await taken(store) == []
    clock.seconds += DAY
    found = [*await taken(store), *await taken(other)]
    await store.keep(command(clock, 0))

    assert found == [SENT]
    assert await taken(store) == []


async def test_a_mail_keeps_the_trace_of_its_request(store: LaterStore, clock: Clock) -> None:
    """A mail is due with it, also one that was cancelled first; a copy of its command adds none."""
    await store.keep(command(clock, 0), "00-1-1-01")
    await store.keep(command(clock, 0), "00-2-2-01")
    await store.keep(command(clock, 0, id="m2"))
    await store.unschedule("shop", "m3")
    await store.keep(command(clock, id="m3"), "00-3-3-01")
    _, found = await store.take(10)

    traces = {each.email_id: each.trace for each in found}
    assert traces == {"m1": "00-1-1-01", "m2": None, "m3": "00-3-3-01"}


async def test_a_mail_is_never_early(store: LaterStore, clock: Clock) -> None:
    """A time within a millisecond is over at the end of it, at first and after a change."""
    await store.keep(command(clock, 0, scheduled_at=_inside(clock)))
    await store.keep(command(clock, id="m2"))
    await store.reschedule("shop", "m2", _inside(clock))
    early = await taken(store)
    clock.seconds += 0.001

    assert early == []
    assert sorted(await taken(store)) == [SENT, ("m2", False, True)]


def _inside(clock: Clock) -> datetime:
    """Return a time a microsecond from now."""
    return moment(round(clock.seconds * 1000)) + timedelta(microseconds=1)


async def test_what_the_broker_refuses_is_due_again_at_once(
    store: LaterStore, other: LaterStore, clock: Clock
) -> None:
    """It may have been published, and is not cancelled; what another has taken since is left."""
    await store.keep(command(clock, 0))
    token, found = await store.take(10)
    await store.put_back(token, found)
    assert not await store.unschedule("shop", "m1")
    assert await taken(other, finish=False) == [SENT]
    await store.put_back(token, found)

    assert await taken(store) == []


async def test_the_first_command_counts(store: LaterStore, other: LaterStore, clock: Clock) -> None:
    """A second command of an id changes neither the content nor the time of a mail."""
    await store.keep(command(clock))
    await other.keep(command(clock, 0, subject="second"))
    early = await taken(other)
    clock.seconds += DAY
    _, [mail] = await other.take(10)

    assert early == []
    assert mail.command is not None
    assert SendEmail.read(mail.command).subject == "s"


async def test_a_scheduler_that_dies_leaves_its_mails(
    store: LaterStore, other: LaterStore, clock: Clock
) -> None:
    """They are due again after its lease, and what it finishes too late is not its own."""
    await store.keep(command(clock, 0))
    token, found = await store.take(10)
    clock.seconds += LEASE.total_seconds()
    again = await taken(other, finish=False)
    await store.finish(token, found)
    clock.seconds += LEASE.total_seconds()

    assert again == [SENT]
    assert await taken(other) == [SENT]


async def test_a_mail_that_was_taken_is_neither_changed_nor_cancelled(
    store: LaterStore, clock: Clock
) -> None:
    """Its scheduler may have published it, also if it has died since."""
    await store.keep(command(clock, 0))
    await store.take(10)
    clock.seconds += LEASE.total_seconds()
    later = moment(round((clock.seconds + DAY) * 1000))

    assert await store.reschedule("shop", "m1", later) is None
    assert not await store.unschedule("shop", "m1")
    assert await taken(store) == [SENT]


async def test_a_mail_of_another_client_is_another_mail(store: LaterStore, clock: Clock) -> None:
    """No client changes or cancels the mail of another, whatever its id."""
    await store.keep(command(clock))
    sooner = moment(round(clock.seconds * 1000))

    assert await store.reschedule("bakery", "m1", sooner) is None
    assert not await store.unschedule("bakery", "m1")
    assert await taken(store) == []
    assert await store.reschedule("shop", "m1", sooner) == sooner
    assert await taken(store) == [SENT]


async def test_a_cancelled_mail_is_reported_and_never_sent(store: LaterStore, clock: Clock) -> None:
    """Neither is a repeat of its request, which is reported as cancelled too."""
    await store.keep(command(clock))
    assert await store.unschedule("shop", "m1")
    assert await store.unschedule("shop", "m1")
    assert await store.reschedule("shop", "m1", moment(0)) is None
    assert await taken(store) == [CANCELLED]
    await store.keep(command(clock))

    assert await taken(store) == [CANCELLED]
    clock.seconds += 2 * DAY
    assert await taken(store) == []


async def test_a_cancellation_that_overtakes_its_command_holds(
    store: LaterStore, clock: Clock
) -> None:
    """The mail is reported as cancelled as soon as it comes."""
    assert not await store.unschedule("shop", "m1")
    assert await taken(store) == []
    await store.keep(command(clock))

    assert await taken(store) == [CANCELLED]


async def test_a_sent_mail_cannot_be_cancelled_by_a_repeat(store: LaterStore, clock: Clock) -> None:
    """The sender has it: a report that it is cancelled would be wrong."""
    await store.keep(command(clock, 0))
    await taken(store)
    assert not await store.unschedule("shop", "m1")
    await store.keep(command(clock, 0))

    assert await taken(store) == []


async def test_a_mail_is_cancelled_while_it_comes(
    store: LaterStore, other: LaterStore, clock: Clock
) -> None:
    """Whichever of the two is first, it is reported as cancelled and not sent."""
    ids = [f"m{number}" for number in range(20)]
    await asyncio.gather(
        *(store.keep(command(clock, 0, id=each)) for each in ids),
        *(other.unschedule("shop", each) for each in ids),
    )
    token, found = await store.take(100)
    await store.finish(token, found)

    assert {(each.email_id, each.cancelled) for each in found} == {(each, True) for each in ids}


async def test_what_is_done_is_forgotten(store: LaterStore, clock: Clock) -> None:
    """Its id stays as long as a copy of its command may come."""
    await store.keep(command(clock, 0))
    await taken(store)
    clock.seconds += REMEMBER.total_seconds()

    _, found = await store.take(10)
    assert found == [DueMail("shop", "m1", cancelled=False, command=None)]
    assert await taken(store, finish=False) == []


async def recipients(store: LaterStore) -> list[tuple[str, tuple[str, ...]]]:
    """Claim what is due: the id of each mail with its recipients, if its command is kept."""
    token, found = await store.take(10)
    await store.finish(token, found)
    commands = [SendEmail.read(each.command) for each in found if each.command is not None]
    return sorted((each.id, each.recipients) for each in commands)


async def test_a_forgotten_person_gets_no_mail(
    store: LaterStore, other: LaterStore, clock: Clock
) -> None:
    """His own mails are gone, also as repeats; those to others too go to the others."""
    await store.keep(command(clock, to=["Ann <Ann@example.org>"]))
    await store.keep(command(clock, id="m2", to=[ANN], cc=[BOB], bcc=[EVE]))
    await store.keep(command(clock, id="m3", client="other", to=[BOB]))
    forgotten = [await other.forget("ANN@example.org") for _ in range(2)]
    await store.keep(command(clock, to=["Ann <Ann@example.org>"]))
    clock.seconds += DAY

    assert forgotten == [2, 0]
    assert await recipients(store) == [
        ("m2", (BOB, "eve@example.org")),
        ("m3", (BOB,)),
    ]


async def test_a_forgotten_mail_that_was_taken_is_not_taken_again(
    store: LaterStore, other: LaterStore, clock: Clock
) -> None:
    """If its scheduler dies, the next one has none to the person; if not, its end does no harm."""
    await store.keep(command(clock, 0))
    await store.keep(command(clock, 0, id="m2", to=[ANN, BOB]))
    token, found = await store.take(10)
    await other.forget(ANN)
    clock.seconds += LEASE.total_seconds()
    again = await recipients(other)
    await store.finish(token, found)

    assert len(found) == 2
    assert again == [("m2", (BOB,))]
    clock.seconds += LEASE.total_seconds()
    assert await recipients(store) == []


async def test_a_command_from_before_comes_without_the_person(
    store: LaterStore, other: LaterStore, clock: Clock
) -> None:
    """A scheduler that was away gets it after the forgetting; a later mail is like any other."""
    before = moment(round(clock.seconds * 1000))
    later = before + timedelta(seconds=1)
    await store.forget(ANN)
    await other.keep(command(clock, created_at=before))
    await other.keep(command(clock, id="m2", to=[ANN, BOB], created_at=before))
    await other.keep(command(clock, id="m3", created_at=later))
    await other.keep(command(clock, id="m4"))  # nobody knows when it was accepted
    clock.seconds += DAY

    assert await recipients(store) == [("m2", (BOB,)), ("m3", (ANN,)), ("m4", (ANN,))]


async def test_a_new_key_still_finds_the_forgotten(open_database: Opener, clock: Clock) -> None:
    """Their hashes are of the key of then, and are deleted when no mail of then is to come."""
    database = await open_database("scheduler", MIGRATIONS)
    old = LaterStore(database, Leases(LEASE), HASHERS[1:], clock)
    rotated = LaterStore(database, Leases(LEASE), HASHERS, clock)
    before = moment(round(clock.seconds * 1000))
    await old.forget(ANN)
    await rotated.keep(command(clock, 0, created_at=before))
    missing = await recipients(rotated)
    clock.seconds += REMEMBER_FORGOTTEN.total_seconds()
    await rotated.purge()
    await rotated.keep(command(clock, 0, created_at=before))
    kept = await recipients(rotated)
    clock.seconds += 1
    await rotated.purge()
    await rotated.keep(command(clock, 0, created_at=before))

    assert missing == kept == []
    assert await recipients(rotated) == [("m1", (ANN,))]


async def test_a_person_is_forgotten_while_mails_come(
    store: LaterStore, other: LaterStore, clock: Clock
) -> None:
    """Whichever is first, no mail from before stays."""
    before = moment(round(clock.seconds * 1000))
    ids = [f"m{number}" for number in range(20)]
    keeping = [store.keep(command(clock, id=each, created_at=before)) for each in ids]
    await asyncio.gather(*keeping, other.forget(ANN))
    clock.seconds += DAY

    assert await recipients(store) == []


async def test_a_sent_mail_leaves_no_address(
    open_database: Opener, store: LaterStore, clock: Clock
) -> None:
    """Its id alone is kept, and that no longer than a copy of its command may come."""
    database = await open_database("scheduler", MIGRATIONS)
    await store.keep(command(clock, 0, to=[ANN, BOB]))
    await taken(store)
    left = await database.read(lambda c: c.execute(sa.select(tables.mail_recipients)).all())

    assert left == []


async def test_changes_and_ends_at_the_same_moment(
    store: LaterStore, other: LaterStore, clock: Clock
) -> None:
    """A mail that is changed, cancelled and taken at once is sent or cancelled, never both."""
    ids = [f"m{number}" for number in range(20)]
    for each in ids:
        await store.keep(command(clock, 0, id=each))
    sooner = moment(round(clock.seconds * 1000))
    changed, ended, (token, found) = await asyncio.gather(
        asyncio.gather(*(store.reschedule("shop", each, sooner) for each in ids)),
        asyncio.gather(*(other.unschedule("shop", each) for each in ids)),
        store.take(7),
    )
    await store.finish(token, found)
    rest = await other.take(100)
    await other.finish(*rest)
    ends = {each.email_id: each.cancelled for each in (*found, *rest[1])}

    assert len(found) + len(rest[1]) == len(ids)
    assert [each for each in ids if ends[each]] == [
        each for each, done in zip(ids, ended, strict=True) if done
    ]
    assert len(changed) == len(ids)
    assert await taken(store) == []
