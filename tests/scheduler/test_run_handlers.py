"""Runs in both databases: reports are counted, a bad run pauses its content type, mails repeat."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from services.scheduler.handlers import SubscriptionHandlers
from services.scheduler.newsletters import NewsletterMaker
from services.scheduler.run_handlers import RunHandlers, StopRule
from services.scheduler.service import MIGRATIONS
from services.scheduler.store.content_types import ContentStore
from services.scheduler.store.due import DueStore, DueSubscription, Leases, Step, moment
from services.scheduler.store.runs import UNKNOWN_MAILBOX, ReportCounts, RunCounts, RunStore
from services.scheduler.store.subscriptions import SubscriptionStore
from shared.contracts import (
    ClientRemoved,
    ContentTypePaused,
    Contract,
    EmailsRepeated,
    ListRuns,
    RepeatEmails,
    ReplyClass,
    ReportBounced,
    ReportComplained,
    RunsListed,
    SaveContentType,
    SendEmail,
    Subscribe,
)
from shared.contracts.content import NewsletterId, run_id
from shared.contracts.schedule import subscription_id
from shared.links import Links
from shared.runtime.sealing import Sealer
from tests.clock import Clock
from tests.databases import Opener
from tests.scheduler.conftest import LINK_KEY, PUBLIC_URL, rendered_here
from tests.scheduler.reports import NOW, bounce, complaint, late

NEWS = ("shop", "news")
RULE = StopRule(unknown_share=0.1, complaint_share=0.1, mails=10)
DAY_SECONDS = 86_400.0
DAY = timedelta(days=1)


class World:
    """The stores of one scheduler, with its handlers."""

    def __init__(
        self,
        contents: ContentStore,
        subscriptions: SubscriptionStore,
        runs: RunStore,
        due: DueStore,
    ) -> None:
        links = Links(PUBLIC_URL, Sealer.from_text(LINK_KEY))
        handlers = SubscriptionHandlers(subscriptions, contents, links, None, _now, DAY)
        self.contents, self.subscriptions, self.runs, self.due = contents, subscriptions, runs, due
        self.handlers = RunHandlers(
            runs, contents, handlers, NewsletterMaker(links, None), rendered_here, RULE, _now
        )

    async def run(self, count: int) -> Sequence[NewsletterId]:
        """Return the mails of a run to so many addresses, which were published."""
        for number in range(count):
            await self.subscribe(number)
        return await self.mailed(count)

    async def subscribe(self, number: int, at: str | None = None) -> None:
        """Add a daily subscription of an address of its own, perhaps at a local time."""
        email = f"{number}@example.org"
        asked = Subscribe(
            id="q", client="shop", email=email, content_type="news", frequency="@daily", at=at
        )
        await self.subscriptions.subscribe(asked)

    async def mailed(self, count: int) -> Sequence[NewsletterId]:
        """Move what is due on to the next period; return its mails."""
        taken = await self.due.take({NEWS: count})
        steps = [self.step(each) for each in taken.subscriptions]
        assert await self.due.move(taken.token, steps) == count
        return [NewsletterId(each.id, each.period) for each in taken.subscriptions]

    @staticmethod
    def step(due: DueSubscription) -> Step:
        """Return the step of a subscription that is mailed its period."""
        following = due.recurrence.after(due.period)
        return Step(due, due.period, following, following)

    async def paused_for(self) -> str | None:
        """Return why the content type is paused."""
        found = await self.contents.describe(NEWS)
        assert found is not None
        return found.paused_for


def _now() -> datetime:
    return NOW


@pytest.fixture
async def worlds(open_database: Opener, clock: Clock) -> Sequence[World]:
    """Return two schedulers with a content type; all its subscriptions are due at once."""
    found = []
    for _ in range(2):
        database = await open_database("scheduler", MIGRATIONS)
        found.append(
            World(
                ContentStore(database, clock),
                SubscriptionStore(database, timedelta(0), _earlier(clock)),
                RunStore(database, clock),
                DueStore(database, Leases(timedelta(seconds=60)), clock),
            )
        )
    await found[0].contents.save(
        SaveContentType(
            id="q", client="shop", name="news", replaces=False, subject="s", html="<p>x</p>"
        )
    )
    return found


def _earlier(clock: Clock) -> Clock:
    """Return a clock that stands still a day before another."""
    earlier = Clock()
    earlier.seconds = clock.seconds - DAY_SECONDS
    return earlier


@pytest.fixture
def world(worlds: Sequence[World]) -> World:
    """Return one scheduler."""
    return worlds[0]


async def test_a_report_counts_once(worlds: Sequence[World]) -> None:
    """It counts once for a mail and its repetition, at whichever scheduler it arrives."""
    [mail] = await worlds[0].run(1)
    counts = await asyncio.gather(
        *(each.runs.report(NEWS, mail, UNKNOWN_MAILBOX) for each in [*worlds, *worlds]),
        worlds[0].runs.report(NEWS, mail.again(), UNKNOWN_MAILBOX),
    )

    assert set(counts) == {ReportCounts(RunCounts(1, 1, 0), RunCounts(1, 1, 0))}
    unknown = await worlds[0].runs.report(("shop", "other"), mail, UNKNOWN_MAILBOX)
    assert unknown is None


async def test_a_report_may_be_first(world: World) -> None:
    """A server may refuse a mail before the scheduler has counted it as published."""
    await world.subscribe(0)
    taken = await world.due.take({NEWS: 1})
    [due] = taken.subscriptions
    early = await world.runs.report(NEWS, NewsletterId(due.id, due.period), UNKNOWN_MAILBOX)
    await world.due.move(taken.token, [world.step(due)])

    assert early == ReportCounts(RunCounts(0, 1, 0), RunCounts(0, 1, 0))
    [run], _ = await world.runs.page(NEWS, None, 10)
    assert (run.published, run.unknown_mailboxes) == (1, 1)


async def test_bounces_pause_once(worlds: Sequence[World]) -> None:
    """More than the share of unknown mailboxes pauses the content type, by one event.

    The event comes again with the report that led to it, in case that it was lost.
    """
    mails = await worlds[0].run(20)
    events = []
    for number, mail in enumerate(mails[:5]):
        events.append(await worlds[number % 2].handlers.on_bounced(bounce(mail)))
    again = await worlds[0].handlers.on_bounced(bounce(mails[2]))

    [paused] = events[2]
    assert isinstance(paused, ContentTypePaused)
    assert [len(each) for each in events] == [0, 0, 1, 0, 0]
    assert (paused.client, paused.name) == NEWS
    assert paused.reason == "3 of the 20 mails of a run went to mailboxes that do not exist"
    assert await worlds[1].paused_for() == paused.reason
    assert again == [paused]


async def test_small_runs_of_a_day_count_together(world: World) -> None:
    """Where each subscription has a time of its own, the bounces of all of them pause it."""
    for hour in range(12):
        await world.subscribe(hour, f"{hour:02}:00")
    mails = sorted(await world.mailed(12), key=lambda each: each.period)
    events = [await world.handlers.on_bounced(bounce(each)) for each in mails[-2:]]

    assert len({each.period for each in mails}) == 12
    assert [len(each) for each in events] == [0, 1]
    assert (
        await world.paused_for() == "2 of the 12 mails of a day went to mailboxes that do not exist"
    )


def test_complaints_have_a_share_of_their_own() -> None:
    """Readers report few mails as spam, so that fewer of them pause a content type."""
    rule = StopRule(unknown_share=0.1, complaint_share=0.01, mails=100)
    some, none = RunCounts(100, 2, 0), RunCounts(0, 0, 0)

    assert rule.reason(ReportCounts(some, none)) is None
    assert rule.reason(ReportCounts(some._replace(complaints=1), none)) is None
    assert rule.reason(ReportCounts(some._replace(complaints=2), none)) == (
        "2 of the 100 mails of a run were reported as spam"
    )


@pytest.mark.parametrize(("count", "bounces"), [(9, 9), (20, 2)])
async def test_a_few_pause_nothing(world: World, count: int, bounces: int) -> None:
    """Up to the share, or of fewer mails than the rule asks for, a run goes on."""
    for mail in (await world.run(count))[:bounces]:
        assert await world.handlers.on_bounced(bounce(mail)) == ()

    assert await world.paused_for() is None


async def test_other_bounces_count_nothing(world: World) -> None:
    """A full mailbox, a mail that is no newsletter and an unknown content type pause nothing."""
    mails = await world.run(10)
    for mail in mails:
        events = [
            bounce(mail, ReplyClass.MAILBOX_FULL),
            bounce(mail).model_copy(update={"email_id": "m1"}),
            bounce(mail).model_copy(update={"metadata": {}}),
            bounce(mail).model_copy(update={"metadata": {"content_type": "a b"}}),
            bounce(mail).model_copy(update={"client": "other"}),
        ]
        for event in events:
            assert await world.handlers.on_bounced(event) == ()

    [run], _ = await world.runs.page(NEWS, None, 10)
    assert run.unknown_mailboxes == 0


async def test_complaints_pause_and_end_subscriptions(world: World) -> None:
    """Each counts, also after its subscription has ended, and ends it."""
    await world.run(10)
    [run], _ = await world.runs.page(NEWS, None, 10)
    events = list[Contract]()
    for number in range(2):
        email = f"{number}@example.org"
        mail = NewsletterId(subscription_id(*NEWS, email), run.period_at)
        await world.subscriptions.end(mail.subscription, None)
        events += await world.handlers.on_suppression(complaint(mail, email))
        await world.handlers.on_suppression(complaint(mail, f"{number + 5}@example.org"))

    [paused] = events
    assert isinstance(paused, ContentTypePaused)
    assert paused.reason == "2 of the 10 mails of a run were reported as spam"
    [run], _ = await world.runs.page(NEWS, None, 10)
    assert run.complaints == 2
    ended = [
        await world.subscriptions.describe(subscription_id(*NEWS, f"{n}@example.org"), None)
        for n in (5, 6)
    ]
    assert ended == [None, None]


async def test_a_resumed_content_type_mails_what_waited(world: World, clock: Clock) -> None:
    """Reports of before it was resumed do not pause it again; those of a later run may."""
    mails = await world.run(20)
    for mail in mails[:3]:
        await world.handlers.on_bounced(bounce(mail))
    clock.seconds += DAY_SECONDS
    waiting = await world.due.find_due()
    resumed = await world.contents.resume(NEWS)
    late = await world.handlers.on_bounced(bounce(mails[3]))

    assert waiting == []
    assert resumed is not None
    assert resumed.paused_at is None
    assert late == ()
    again = await world.mailed(20)
    paused = [
        event for each in again[:3] for event in await world.handlers.on_bounced(bounce(each))
    ]
    assert len(paused) == 1


async def test_runs_are_paged_and_purged(world: World, clock: Clock) -> None:
    """The latest is first; a run is listed for some days after its period."""
    await world.run(2)
    for _ in range(2):
        clock.seconds += DAY_SECONDS
        await world.mailed(2)
    [first] = await world.handlers.on_list_runs(
        ListRuns(id="q", client="shop", name="news", limit=2)
    )
    assert isinstance(first, RunsListed)
    [second] = await world.handlers.on_list_runs(
        ListRuns(id="q", client="shop", name="news", after=first.next, limit=2)
    )
    assert isinstance(second, RunsListed)
    periods = [each.period_at for each in (*first.runs, *second.runs)]

    assert [len(first.runs), len(second.runs), second.next] == [2, 1, None]
    assert periods == sorted(periods, reverse=True)
    clock.seconds = (periods[1] - moment(0)).total_seconds() + 30 * DAY_SECONDS
    await world.runs.purge(30)
    left, _ = await world.runs.page(NEWS, None, 10)
    assert [each.period_at for each in left] == periods[:2]


async def test_a_mail_is_repeated_under_an_id_that_follows(world: World) -> None:
    """Asked again it is the same mail; who has unsubscribed, and another run, gets none."""
    mails = await world.run(3)
    await world.subscriptions.end(mails[1].subscription, None)
    other = mails[2]._replace(period=mails[2].period + timedelta(days=1))
    asked = RepeatEmails(
        id="q",
        client="shop",
        name="news",
        run_id=run_id("news", mails[0].period),
        email_ids=("m1", str(mails[0]), str(mails[1]), str(other)),
    )
    answers = [await world.handlers.on_repeat(asked) for _ in range(2)]

    for mail, answer in answers:
        assert isinstance(mail, SendEmail)
        assert mail.id == f"{mails[0]}.1"
        assert mail.tags[0].value == asked.run_id
        assert answer == EmailsRepeated(id="q", email_ids=(str(mails[0]),))


async def test_a_paused_content_type_repeats_nothing(world: World) -> None:
    """No mail of it goes out until it is resumed."""
    [mail] = await world.run(1)
    await world.contents.pause(NEWS, "too many complaints", str(mail))
    asked = RepeatEmails(
        id="q",
        client="shop",
        name="news",
        run_id=run_id("news", mail.period),
        email_ids=(str(mail),),
    )

    assert await world.handlers.on_repeat(asked) == [EmailsRepeated(id="q", email_ids=())]


async def test_reports_that_come_later_count_as_refusals_do(worlds: Sequence[World]) -> None:
    """A late bounce and a complaint count once, and too many pause the content type."""
    mails = await worlds[0].run(20)
    events = [await worlds[0].handlers.on_bounced(late(ReportBounced, each)) for each in mails[:2]]
    copy = await worlds[1].handlers.on_bounced(bounce(mails[0]))
    complaints = [
        await worlds[1].handlers.on_complained(late(ReportComplained, each)) for each in mails[:3]
    ]
    again = await worlds[0].handlers.on_suppression(complaint(mails[2], "2@example.org"))

    assert [*events, copy, *complaints[:2]] == [()] * 5
    [paused] = complaints[2]
    assert isinstance(paused, ContentTypePaused)
    assert paused.reason == "3 of the 20 mails of a run were reported as spam"
    assert again in ([], [paused])
    [run], _ = await worlds[0].runs.page(NEWS, None, 10)
    assert (run.unknown_mailboxes, run.complaints) == (2, 3)


async def test_the_content_types_of_a_removed_client_are_paused(worlds: Sequence[World]) -> None:
    """By one event each, however often the removal comes; resumed, they stay so."""
    other = {"id": "q", "replaces": False, "subject": "s", "html": "<p>x</p>"}
    for client, name in (("shop", "offers"), ("bank", "news")):
        asked = SaveContentType.model_validate({**other, "client": client, "name": name})
        await worlds[0].contents.save(asked)
    removed = ClientRemoved(id="r1", at=NOW, client="shop", registered_at=NOW)
    events = [await each.handlers.on_client_removed(removed) for each in worlds]
    reason = await worlds[1].paused_for()
    await worlds[1].contents.resume(NEWS)
    await worlds[0].handlers.on_client_removed(removed)
    bank = await worlds[0].contents.describe(("bank", "news"))

    paused = [each for each in events[0] if isinstance(each, ContentTypePaused)]
    assert {(each.client, each.name) for each in paused} == {("shop", "news"), ("shop", "offers")}
    assert len({each.id for each in paused}) == 2
    assert {each.id for each in events[1]} == {each.id for each in paused}
    assert reason == "the client was removed"
    assert await worlds[0].paused_for() is None
    assert bank is not None
    assert bank.paused_at is None
