"""The handlers of the scheduler in both databases; each message is handled twice, with one end."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.scheduler.handlers import (
    ContentHandlers,
    ForgetHandlers,
    LaterHandlers,
    SubscriptionHandlers,
)
from services.scheduler.rendering import rendering
from services.scheduler.service import MIGRATIONS
from services.scheduler.store.content_types import ContentStore
from services.scheduler.store.due import Leases, moment
from services.scheduler.store.later import LaterStore
from services.scheduler.store.subscriptions import SubscriptionStore
from shared.contracts import (
    Category,
    ConfirmSubscription,
    ContentResult,
    ContentTypeAnswered,
    Contract,
    DeleteContentType,
    DescribeContentType,
    DescribeSubscription,
    EmailRescheduled,
    EndSubscription,
    ForgetAddress,
    ListSubscriptions,
    RenderContent,
    RescheduleEmail,
    SaveContentType,
    SchedulingAnswered,
    SchedulingResult,
    SendEmail,
    Subscribe,
    SubscriptionAnswered,
    SubscriptionResult,
    SubscriptionsListed,
    Suppression,
    SuppressionAdded,
    SuppressionOrigin,
    UnscheduleEmail,
    decode,
    encode,
)
from shared.contracts.schedule import subscription_id
from shared.errors import Reject, Undecodable
from shared.links import LinkKind, Links
from shared.runtime.sealing import AddressHasher, Sealer
from tests.clock import Clock
from tests.databases import Opener
from tests.scheduler.conftest import LINK_KEY, PUBLIC_URL

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PENDING = timedelta(days=30)
LINKS = Links(PUBLIC_URL, Sealer.from_text(LINK_KEY))
NEWS = SaveContentType(
    id="q", client="shop", name="news", replaces=False, subject="For {{ name }}", html="<p>x</p>"
)
ANN = Subscribe(
    id="q1", client="shop", email="ann@example.org", content_type="news", frequency="@daily"
)
ID = subscription_id("shop", "news", "ann@example.org")


@dataclass(frozen=True)
class Handling:
    """The handlers of one scheduler."""

    contents: ContentHandlers
    subscriptions: SubscriptionHandlers
    later: LaterHandlers
    forget: ForgetHandlers
    clock: Clock

    async def subscribe(self, **more: object) -> Sequence[Contract]:
        """Ask for a subscription."""
        asked = Subscribe.model_validate({**ANN.model_dump(), **more})
        return await twice(self.subscriptions.on_subscribe, asked, once=asked.confirm)

    async def emails(self) -> set[str]:
        """Return the addresses of all subscriptions."""
        (page,) = await self.subscriptions.on_list(ListSubscriptions(id="q"))
        assert isinstance(page, SubscriptionsListed)
        return {each.email for each in page.subscriptions}

    def at(self, seconds: float = 0) -> datetime:
        """Return a time so many seconds from now."""
        return moment(round((self.clock.seconds + seconds) * 1000))


@pytest.fixture
async def handling(open_database: Opener, clock: Clock) -> Any:  # noqa: ANN401 -- an iterator
    """Return the handlers of a scheduler with a content type."""
    database = await open_database("scheduler", MIGRATIONS)
    contents = ContentStore(database, clock)
    store = SubscriptionStore(database, timedelta(0), clock)
    mails = LaterStore(database, Leases(DAY), [AddressHasher(b"k" * 32)], clock)
    async with rendering() as renderer:
        handlers = Handling(
            ContentHandlers(contents, renderer),
            SubscriptionHandlers(store, contents, LINKS, "s@shop.example", lambda: NOW, PENDING),
            LaterHandlers(mails, lambda: moment(round(clock.seconds * 1000))),
            ForgetHandlers(store, mails),
            clock,
        )
        await handlers.contents.on_save(NEWS)
        yield handlers


async def twice(
    handler: Callable[[Any], Awaitable[Sequence[Contract]]],
    message: Contract,
    *,
    once: bool = False,
) -> Sequence[Contract]:
    """Handle a message as it is delivered again; return what is published the first time.

    The second time has the same messages by their ids, unless it is all told by its `once`.
    """
    first, again = await handler(message), await handler(message)
    assert [(type(each), each.id) for each in again] == [(type(each), each.id) for each in first]
    if once:
        mails = [[each for each in them if isinstance(each, SendEmail)] for them in (first, again)]
        assert [each.to for each in mails[0]] == [each.to for each in mails[1]]
    return first


def answer(messages: Sequence[Contract]) -> SubscriptionAnswered:
    """Return the answer among messages."""
    (found,) = [each for each in messages if isinstance(each, SubscriptionAnswered)]
    return found


def test_a_blank_template_is_refused() -> None:
    """A mail without content is a mistake, also of a program that asks the scheduler itself."""
    blank = NEWS.model_copy(update={"html": " \n\t"})

    with pytest.raises(Undecodable, match="html: must not be blank"):
        decode(blank.routing_key, encode(blank))


async def test_templates_that_cannot_be_read_are_refused(handling: Handling) -> None:
    """The answer names the part, the line and the mistake, and nothing is saved."""
    wrong = NEWS.model_copy(update={"name": "wrong", "html": "<p>\n{{ name"})
    with pytest.raises(Reject, match="html: line 2"):
        await handling.contents.on_save(wrong)
    (found,) = await handling.contents.on_describe(
        DescribeContentType(id="q", client="shop", name="wrong")
    )

    assert isinstance(found, ContentTypeAnswered)
    assert found.result is ContentResult.UNKNOWN


async def test_a_content_type_that_is_saved_again(handling: Handling) -> None:
    """A repeated creation tells that there is one; a repeated change is one version."""
    (again,) = await handling.contents.on_save(NEWS)
    change = NEWS.model_copy(update={"replaces": True, "title": "News"})
    (changed,) = await twice(handling.contents.on_save, change)

    assert isinstance(again, ContentTypeAnswered)
    assert isinstance(changed, ContentTypeAnswered)
    assert changed.content_type is not None
    assert (again.result, changed.content_type.version) == (ContentResult.EXISTS, 2)


async def test_a_content_type_is_not_deleted_while_subscribed_to(handling: Handling) -> None:
    """A pending subscription keeps it too; after the last one a repeat finds none."""
    await handling.subscribe(confirm=True)
    delete = DeleteContentType(id="q", client="shop", name="news")
    results = []
    for message in (delete, None, delete, delete):
        if message is None:
            await handling.subscriptions.on_end(EndSubscription(id="q", subscription_id=ID))
            continue
        (found,) = await handling.contents.on_delete(message)
        assert isinstance(found, ContentTypeAnswered)
        results.append(found.result)

    assert results == [ContentResult.IN_USE, ContentResult.DELETED, ContentResult.UNKNOWN]


@pytest.mark.parametrize("client", ["other", None])
async def test_the_content_types_of_others_are_unknown(
    handling: Handling, client: str | None
) -> None:
    """No client reads, deletes, renders or subscribes to that of another."""
    own = {"id": "q", "client": client, "name": "news"}
    found = [
        *await handling.contents.on_describe(DescribeContentType.model_validate(own)),
        *await handling.contents.on_delete(DeleteContentType.model_validate(own)),
    ]
    (rendered,) = await handling.contents.on_render(RenderContent.model_validate(own))
    subscribed = answer(await handling.subscribe(client=client))

    assert {each.result for each in found if isinstance(each, ContentTypeAnswered)} == {
        ContentResult.UNKNOWN
    }
    assert rendered.model_dump(exclude_none=True, include={"version", "subject"}) == {}
    assert subscribed.result is SubscriptionResult.NO_CONTENT_TYPE
    assert await handling.emails() == set()


async def test_a_subscription_is_added_once(handling: Handling) -> None:
    """A repeated delivery and a repeated request change nothing, in any capitals."""
    first = answer(await handling.subscribe())
    again = answer(await handling.subscribe(id="q2", email="ANN@example.org"))

    assert (first.result, again.result) == (
        SubscriptionResult.CREATED,
        SubscriptionResult.UNCHANGED,
    )
    assert first.subscription == again.subscription
    assert await handling.emails() == {"ann@example.org"}


async def test_a_subscriber_is_asked_by_one_mail(handling: Handling) -> None:
    """A delivery that comes again is the same mail, whose link works as long as it is awaited."""
    messages = await handling.subscribe(confirm=True, locale="fr", id="q" * 100)
    (mail,) = [each for each in messages if isinstance(each, SendEmail)]
    token = (mail.text or "").partition("/subscribe/")[2].split()[0]

    assert (mail.category, mail.from_, mail.list_id) == (
        *(Category.TRANSACTIONAL, "s@shop.example", None),
    )
    assert mail.subject == "Confirmez votre abonnement à news"
    assert "List-Unsubscribe" not in mail.headers
    found = LINKS.read(LinkKind.CONFIRM, token, NOW + PENDING - timedelta(seconds=1))
    assert found is not None
    assert (found.email, found.client) == ("ann@example.org", "shop")
    assert LINKS.read(LinkKind.CONFIRM, token, NOW + PENDING) is None
    within_the_hour = await handling.subscribe(confirm=True, id="q2")
    assert [type(each) for each in within_the_hour] == [SubscriptionAnswered]


async def test_a_confirmation_twice(handling: Handling) -> None:
    """Both have one answer; of a subscription that is not there nothing is confirmed."""
    confirm = ConfirmSubscription(id="q", subscription_id=ID)
    before = answer(await twice(handling.subscriptions.on_confirm, confirm))
    await handling.subscribe(confirm=True)
    confirmed = answer(await twice(handling.subscriptions.on_confirm, confirm))

    assert before.result is SubscriptionResult.UNKNOWN
    assert confirmed.result is SubscriptionResult.CONFIRMED
    assert confirmed.subscription is not None
    assert confirmed.subscription.next_at is not None


async def test_the_subscriptions_of_others_are_unknown(handling: Handling) -> None:
    """No client reads or ends that of another, and a second end finds none."""
    await handling.subscribe()
    other = {"id": "q", "client": "other", "subscription_id": ID}
    read = answer(
        await handling.subscriptions.on_describe(DescribeSubscription.model_validate(other))
    )
    ended = answer(await handling.subscriptions.on_end(EndSubscription.model_validate(other)))
    own = EndSubscription(id="q", client="shop", subscription_id=ID)
    results = [answer(await handling.subscriptions.on_end(own)).result for _ in range(2)]

    assert {read.result, ended.result} == {SubscriptionResult.UNKNOWN}
    assert read.subscription is None
    assert results == [SubscriptionResult.ENDED, SubscriptionResult.UNKNOWN]


@pytest.mark.parametrize(
    ("entry", "ends"),
    [
        ({}, True),
        ({"list_id": None}, True),
        ({"client": None, "list_id": None}, True),
        ({"list_id": "offers"}, False),
        ({"client": "other"}, False),
        ({"email": "bob@example.org"}, False),
        ({"email": None}, False),  # of a person who was forgotten
        ({"origin": SuppressionOrigin.COMPLAINT, "list_id": None}, True),
        ({"origin": SuppressionOrigin.BOUNCE, "client": None, "list_id": None}, False),
        ({"origin": SuppressionOrigin.MANUAL, "list_id": None}, False),
    ],
)
@pytest.mark.parametrize("confirm", [False, True])
async def test_what_ends_a_subscription(
    handling: Handling, entry: dict[str, object], *, ends: bool, confirm: bool
) -> None:
    """An opt-out or a complaint that covers it does, pending too; an old one ends no new one."""
    await handling.subscribe(confirm=confirm)

    def event(at: datetime) -> SuppressionAdded:
        fields = {
            "email": "Ann@example.org",
            "address_key": "0" * 64,
            "client": "shop",
            "list_id": "news",
            "categories": (Category.BULK,),
            "origin": SuppressionOrigin.UNSUBSCRIBE,
            "at": at,
        }
        suppression = Suppression.model_validate(fields | entry)
        return SuppressionAdded(id="e", at=at, suppression=suppression, version=1)

    await handling.subscriptions.on_suppression(event(handling.at(-1)))
    kept = await handling.emails()
    assert await twice(handling.subscriptions.on_suppression, event(handling.at(1))) == ()

    assert kept == {"ann@example.org"}
    assert await handling.emails() == (set() if ends else kept)


async def test_a_forgotten_person_is_nowhere(handling: Handling) -> None:
    """Subscriptions, pending ones and mails for later are gone, and a repeat does no harm."""
    await handling.subscribe()
    await handling.subscribe(email="bob@example.org", confirm=True)
    await handling.later.on_send_email(later(handling))
    for email in ("Ann@example.org", "BOB@example.org"):
        assert await twice(handling.forget.on_forget, ForgetAddress(id="f", email=email)) == ()

    assert await handling.emails() == set()
    assert await scheduling(handling, "m1") is SchedulingResult.UNKNOWN


def later(handling: Handling, **more: object) -> SendEmail:
    """Return a mail that is due tomorrow."""
    fields = {"id": "m1", "client": "shop", "to": ["ann@example.org"], "subject": "s", "text": "t"}
    at = handling.at(DAY.total_seconds())
    return SendEmail.model_validate({**fields, "scheduled_at": at, **more})


async def scheduling(handling: Handling, email_id: str, client: str = "shop") -> SchedulingResult:
    """Ask for another time of a mail; return the result."""
    at = handling.at(2 * DAY.total_seconds())
    asked = RescheduleEmail(id="q", client=client, email_id=email_id, scheduled_at=at)
    found, *events = await handling.later.on_reschedule(asked)
    assert isinstance(found, SchedulingAnswered)
    assert [type(each) for each in events] == (
        [EmailRescheduled] if found.result is SchedulingResult.DONE else []
    )
    return found.result


async def test_a_mail_for_later_is_changed_by_its_client_alone(handling: Handling) -> None:
    """A mail that is unknown, another client's or cancelled has no other time, and no event."""
    assert await twice(handling.later.on_send_email, later(handling)) == ()
    results = [
        await scheduling(handling, "m1"),
        await scheduling(handling, "m1"),
        await scheduling(handling, "m1", "other"),
        await scheduling(handling, "m2"),
    ]
    cancel = UnscheduleEmail(id="q", client="shop", email_id="m1")
    (cancelled,) = await twice(handling.later.on_unschedule, cancel)

    done, unknown = SchedulingResult.DONE, SchedulingResult.UNKNOWN
    assert results == [done, done, unknown, unknown]
    assert isinstance(cancelled, SchedulingAnswered)
    assert cancelled.result is done
    assert await scheduling(handling, "m1") is unknown


async def test_a_mail_does_not_wait_for_ever(handling: Handling) -> None:
    """A time beyond 30 days, and the day by which clocks may differ, is a dead letter."""
    limit = handling.at() + timedelta(days=31)
    await handling.later.on_send_email(later(handling, scheduled_at=limit))
    beyond = limit + timedelta(milliseconds=1)
    with pytest.raises(Reject, match="30 days"):
        await handling.later.on_send_email(later(handling, id="m2", scheduled_at=beyond))
    change = RescheduleEmail(id="q", client="shop", email_id="m1", scheduled_at=beyond)
    with pytest.raises(Reject, match="30 days"):
        await handling.later.on_reschedule(change)

    assert await scheduling(handling, "m1") is SchedulingResult.DONE
    assert await scheduling(handling, "m2") is SchedulingResult.UNKNOWN
