"""The suppression list in both databases: bounces, changes by hand, pages."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from services.ledger.handlers import SuppressionHandlers
from services.ledger.mails import DAY_MILLISECONDS, moment
from services.ledger.store.forgetting import AddressForgetter
from services.ledger.store.suppressing import SuppressionStore
from services.ledger.suppressions import REMEMBER_ENDED_MILLISECONDS, SuppressionCause, cause
from shared.contracts import (
    Category,
    DescribeSuppression,
    EmailBounced,
    ListSuppressions,
    NewSuppression,
    ReplyClass,
    ReportBounced,
    ReportComplained,
    Suppression,
    SuppressionAdded,
    SuppressionOrigin,
    SuppressionRemoved,
    SuppressionsListed,
)
from tests.clock import Clock
from tests.databases import has_log
from tests.ledger.books import ADA, BOB, event, report
from tests.ledger.conftest import Changes
from tests.sender.senders import HASHER

WEEK_SECONDS = 7 * DAY_MILLISECONDS / 1000
BULK = (Category.BULK,)
MANY = 1000  # entries of one question


def at(clock: Clock, seconds: float = 0) -> int:
    """Return a time after the present one, in milliseconds."""
    return round((clock.seconds + seconds) * 1000)


def a_bounce(
    clock: Clock, email: str = ADA, email_id: str = "m-1", seconds: float = 0, client: str = "shop"
) -> SuppressionCause:
    """Return a bounce of a client's mail."""
    return SuppressionCause(
        email, email_id, "mailbox unknown: 550 5.1.1", at(clock, seconds), client
    )


def by_hand(email: str = ADA, **more: object) -> NewSuppression:
    """Return an entry by hand."""
    return NewSuppression.model_validate({"email": email, "client": "shop", **more})


async def of(entries: SuppressionStore, client: str | None = None) -> list[Suppression]:
    """Return the entries of ada that a client sees."""
    return [each.suppression for each in await entries.describe(ADA, client)]


async def test_a_bounce(entries: SuppressionStore, clock: Clock, changes: Changes) -> None:
    """An unknown mailbox gets no mail of any class from any client, for a week at first."""
    await entries.suppress(a_bounce(clock))

    (found,) = await of(entries, "any")
    assert (found.origin, found.client, found.list_id) == (SuppressionOrigin.BOUNCE, None, None)
    assert (found.categories, found.email_id) == (tuple(Category), "m-1")
    assert found.expires_at == moment(at(clock, WEEK_SECONDS))
    assert changes.count == 1


async def test_the_same_bounce_again(entries: SuppressionStore, clock: Clock) -> None:
    """A bounce that comes twice, or of another mail under way, changes nothing."""
    await entries.suppress(a_bounce(clock))
    before = await entries.describe(ADA, None)
    clock.seconds += WEEK_SECONDS / 2
    await entries.suppress(a_bounce(clock, seconds=-WEEK_SECONDS / 2))
    await entries.suppress(a_bounce(clock, email_id="m-2"))

    assert await entries.describe(ADA, None) == before


async def test_a_second_bounce(entries: SuppressionStore, clock: Clock) -> None:
    """An address that bounces again after its time is suppressed for good."""
    first = a_bounce(clock)
    await entries.suppress(first)
    clock.seconds += WEEK_SECONDS
    between = await of(entries)
    await entries.suppress(first)
    still = await of(entries)
    await entries.suppress(a_bounce(clock, email_id="m-2"))

    (found,) = await of(entries)
    assert (between, still) == ([], [])
    assert (found.expires_at, found.email_id) == (None, "m-2")


async def test_bounces_at_once(
    entries: SuppressionStore, other: SuppressionStore, clock: Clock
) -> None:
    """Bounces of one address at two replicas at once make one entry, for a week."""
    await asyncio.gather(
        *(
            (entries, other)[number % 2].suppress(a_bounce(clock, email_id=f"m-{number}"))
            for number in range(40)
        )
    )

    (found,) = await of(entries)
    assert found.expires_at == moment(at(clock, WEEK_SECONDS))


async def test_a_removed_bounce(entries: SuppressionStore, clock: Clock) -> None:
    """A client may remove a bounce; the old outcome does not bring it back, a new one does."""
    old = a_bounce(clock)
    await entries.suppress(old)
    clock.seconds += 1
    removed = await entries.remove([ADA.upper()], "shop")
    await entries.suppress(old)
    without = await of(entries)
    await entries.suppress(a_bounce(clock, seconds=1))

    assert [each.origin for each in removed] == ["bounce"]
    assert without == []
    assert len(await of(entries)) == 1


async def test_an_opt_out_of_one_list_is_lifted(entries: SuppressionStore) -> None:
    """To subscribe to a list again lifts its opt-out, and neither that of all lists nor another."""
    opt_outs = [
        NewSuppression(
            email=ADA,
            client="shop",
            list_id=each,
            categories=(Category.BULK,),
            origin=SuppressionOrigin.UNSUBSCRIBE,
        )
        for each in ("news", "offers", None)
    ]
    await entries.add(opt_outs)
    removed = await entries.remove([ADA], "shop", SuppressionOrigin.UNSUBSCRIBE, "news")

    assert [each.list_id for each in removed] == ["news"]
    assert {each.list_id for each in await of(entries)} == {"offers", None}


async def test_only_unknown_mailboxes(
    entries: SuppressionStore, forgetter: AddressForgetter, clock: Clock
) -> None:
    """A refusal of another class suppresses nothing; one recipient of a mail suppresses itself."""
    handlers = SuppressionHandlers(entries, forgetter)
    for kind in ReplyClass:
        bounced = event(
            EmailBounced,
            recipient=ADA if kind is ReplyClass.MAILBOX_UNKNOWN else BOB,
            reply_class=kind,
            at=moment(at(clock)),
        )
        assert isinstance(bounced, EmailBounced)
        await handlers.on_refused(bounced)

    assert len(await of(entries)) == 1
    assert await entries.describe(BOB, None) == []


async def test_late_bounces(entries: SuppressionStore, clock: Clock) -> None:
    """A bounce that would have ended already suppresses nothing."""
    await entries.suppress(a_bounce(clock, seconds=-WEEK_SECONDS))

    assert await of(entries) == []


@pytest.mark.parametrize(
    ("named", "categories"),
    [
        (
            {"origin": SuppressionOrigin.COMPLAINT, "categories": ["otp"]},
            (Category.TRANSACTIONAL, Category.BULK),
        ),
        ({"origin": SuppressionOrigin.UNSUBSCRIBE}, BULK),
        ({"categories": ["otp"]}, (Category.OTP,)),
    ],
)
async def test_classes(
    entries: SuppressionStore, named: dict[str, object], categories: tuple[Category, ...]
) -> None:
    """An origin decides which classes are stopped, but by hand those that are named."""
    await entries.add([NewSuppression.model_validate({"email": ADA, "client": "shop", **named})])

    assert [each.categories for each in await of(entries)] == [categories]


async def test_a_complaint(entries: SuppressionStore) -> None:
    """A complaint names the mail that led to it; the same report again changes nothing."""
    complaint = by_hand(origin=SuppressionOrigin.COMPLAINT, reason="abuse report")
    first = await entries.add([complaint], "m-7")
    again = await entries.add([complaint], "m-7")

    (found,) = await of(entries, "shop")
    assert (found.client, found.list_id, found.email_id) == ("shop", None, "m-7")
    assert first == again


async def test_clients(entries: SuppressionStore, clock: Clock) -> None:
    """An address has the entries of a client and of all; a list has no bounce of other clients.

    A client removes its own entries and bounces.
    """
    await entries.suppress(a_bounce(clock))
    await entries.suppress(a_bounce(clock, "new@one.example", client="other"))
    for client in ("shop", "other", None):
        await entries.add([by_hand(client=client)])
    seen = {each.client for each in await of(entries, "shop")}
    page, _ = await entries.page(ListSuppressions(id="q", client="shop"))
    everything, _ = await entries.page(ListSuppressions(id="q"))
    await entries.remove([ADA], "shop")

    assert seen == {"shop", None}
    assert sorted(each.origin for each in page) == ["bounce", "manual"]
    assert {(each.email, each.client or "shop") for each in page} == {(ADA, "shop")}
    assert len(everything) == 5
    assert sorted(each.client or "" for each in await of(entries)) == ["", "other"]
    await entries.remove([ADA], None)
    assert [each.client for each in await of(entries)] == ["other"]


async def test_added_again(entries: SuppressionStore, clock: Clock) -> None:
    """The same entry stays as it is; a changed one is replaced, in a higher version."""
    (first,) = await entries.add([by_hand(reason="a")])
    clock.seconds += 1
    (same,) = await entries.add([by_hand(reason="a")])
    (changed,) = await entries.add([by_hand(reason="b")])
    await entries.remove([ADA], "shop")
    (again,) = await entries.add([by_hand(reason="b")])

    assert same == first
    assert first.version < changed.version < again.version


async def test_a_clock_that_was_put_back(entries: SuppressionStore, clock: Clock) -> None:
    """A later version is higher though the clock was put back."""
    (first,) = await entries.add([by_hand(reason="a")])
    clock.seconds -= 100
    (second,) = await entries.add([by_hand(reason="b")])

    assert second.version > first.version


async def test_the_end(entries: SuppressionStore, clock: Clock) -> None:
    """An entry is not shown from its end on."""
    ends = datetime.fromtimestamp(clock.seconds, moment(0).tzinfo) + timedelta(seconds=60)
    await entries.add([by_hand(expires_at=ends)])
    before = await of(entries)
    clock.seconds += 60

    assert len(before) == 1
    assert await of(entries) == []
    assert await entries.page(ListSuppressions(id="q")) == ([], "")


async def test_pages(entries: SuppressionStore, clock: Clock) -> None:
    """Pages have each entry once, the newest first, and change with no new entry."""
    names = [f"p{number}@one.example" for number in range(MANY)]
    await entries.add([by_hand(each) for each in names])
    clock.seconds += 1
    await entries.suppress(a_bounce(clock))
    found: list[str | None] = []
    after: str | None = None
    while after != "":
        question = ListSuppressions(id="q", client="shop", after=after, limit=300)
        page, after = await entries.page(question)
        found += [each.email for each in page]
        await entries.suppress(a_bounce(clock, f"new{len(found)}@one.example"))

    assert found[0] == ADA
    assert sorted(each for each in found if each) == sorted([ADA, *names])


async def test_of_one_origin(entries: SuppressionStore, clock: Clock) -> None:
    """Lists and removals may be of one origin alone."""
    await entries.suppress(a_bounce(clock))
    await entries.add([by_hand()])
    page, _ = await entries.page(ListSuppressions(id="q", origin=SuppressionOrigin.BOUNCE))
    await entries.remove([ADA], "shop", SuppressionOrigin.MANUAL)

    assert [each.origin for each in page] == ["bounce"]
    assert [each.origin for each in await of(entries)] == [SuppressionOrigin.BOUNCE]


async def test_forgotten(entries: SuppressionStore, clock: Clock) -> None:
    """Of a forgotten person only the hash of an opt-out stays, and it still counts."""
    await entries.suppress(a_bounce(clock))
    await entries.add([by_hand(origin="unsubscribe", reason="Ada wrote to us")])
    await entries.forget("ADA@one.example")

    (left,) = await of(entries)
    assert (left.email, left.reason, left.email_id) == (None, "", None)
    assert left.address_key == HASHER.hash(ADA)
    events = [each.event for each in await entries.unannounced()]
    assert {type(each) for each in events} == {SuppressionAdded, SuppressionRemoved}
    assert all(each.suppression.email is None for each in events)


async def test_purge(entries: SuppressionStore, clock: Clock, tmp_path: Path) -> None:
    """A removed entry is deleted long after its removal was announced."""
    await entries.add([by_hand(), by_hand(BOB)])
    await entries.remove([ADA], "shop")
    clock.seconds += REMEMBER_ENDED_MILLISECONDS / 1000 + 1
    unannounced = await entries.purge()
    await entries.announced(await entries.unannounced())

    assert (unannounced, await entries.purge()) == (0, 1)
    assert not has_log(tmp_path)
    assert [each.email for each in await entries.describe(BOB, None)] == [BOB]


async def test_questions(
    entries: SuppressionStore, forgetter: AddressForgetter, clock: Clock
) -> None:
    """An answer has the entries as programs see them."""
    await entries.suppress(a_bounce(clock))
    question = DescribeSuppression(id="q", email=ADA, client="shop")

    (answer,) = await SuppressionHandlers(entries, forgetter).on_describe(question)

    assert isinstance(answer, SuppressionsListed)
    assert [each.reason for each in answer.suppressions] == ["mailbox unknown: 550 5.1.1"]


async def test_a_complaint_stops_all_but_codes_of_its_client(
    entries: SuppressionStore, clock: Clock
) -> None:
    """A complaint counts for good, for the client alone, and once, however often it comes."""
    found = cause(report(ReportComplained, at=moment(at(clock))))
    assert found is not None
    await entries.suppress(found)
    [entry] = await entries.describe(ADA, "shop")
    await entries.suppress(found)

    assert entry.suppression.categories == (Category.TRANSACTIONAL, Category.BULK)
    assert (entry.origin, entry.client, entry.email_id) == ("complaint", "shop", "m-1")
    assert entry.expires_at is None
    assert await entries.describe(ADA, "shop") == [entry]
    assert await entries.describe(ADA, "other") == []


async def test_a_copy_of_a_complaint_does_not_undo_a_removal(
    entries: SuppressionStore, clock: Clock
) -> None:
    """After an operator has removed the entry, only a later complaint brings it back."""
    old = cause(report(ReportComplained, at=moment(at(clock))))
    assert old is not None
    await entries.suppress(old)
    await entries.remove([ADA], "shop")
    await entries.suppress(old)
    assert await entries.describe(ADA, "shop") == []

    await entries.suppress(old._replace(at=old.at + 1000))
    assert await entries.describe(ADA, "shop") != []


async def test_a_report_suppresses_as_a_refusal_does(
    entries: SuppressionStore, clock: Clock
) -> None:
    """An unknown mailbox suppresses for all clients; a report of another class does nothing."""
    assert cause(report(ReportBounced, reply_class=ReplyClass.POLICY)) is None
    found = cause(report(ReportBounced, at=moment(at(clock))))
    assert found is not None
    await entries.suppress(found)

    [entry] = await entries.describe(ADA, "other")
    assert entry.suppression.categories == tuple(Category)
