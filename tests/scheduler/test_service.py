"""A running scheduler at a real broker."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.scheduler.service import MIGRATIONS
from services.scheduler.store.tables import subscriptions
from shared import topology
from shared.contracts import (
    Category,
    ContentRendered,
    ContentResult,
    ContentTypeAnswered,
    Contract,
    DeleteContentType,
    DescribeContentType,
    EmailCancelled,
    EmailRescheduled,
    RenderContent,
    RescheduleEmail,
    SaveContentType,
    SchedulingAnswered,
    SchedulingResult,
    SendEmail,
    Subscribe,
    SubscriptionAnswered,
    SubscriptionResult,
    UnscheduleEmail,
    decode,
    encode,
)
from shared.storage.database import Database
from tests.ops.dying import settled
from tests.scheduler.conftest import PUBLIC_URL, Scheduled, running, scheduled, soon
from tests.tap import Tap, publish_raw, tapped
from tests.waiting import until

pytestmark = pytest.mark.rabbit

NEWS = SaveContentType(
    id="q1",
    client="shop",
    name="news",
    replaces=False,
    subject="News for {{ name }}",
    html="<style>p{color:red}</style><p>Hello {{ name }}</p>",
)
ANN = Subscribe(
    id="q2",
    client="shop",
    email="ann@example.org",
    content_type="news",
    frequency="@daily",
    variables={"name": "Ann & Bob"},
)


async def make_due(scheduler: Scheduled) -> None:
    """Move the periods of all subscriptions a day back, as if they were due."""
    async with Database.open(
        "scheduler", None, scheduler.settings.data_dir, MIGRATIONS
    ) as database:
        back = {name: subscriptions.c[name] - 86_400_000 for name in ("period_at", "due_at")}
        await database.write(lambda c: c.execute(sa.update(subscriptions).values(back)))


async def test_a_newsletter(scheduler: Scheduled) -> None:
    """A subscription that is due is mailed once, with links to unsubscribe, and then moves on."""
    saved = await scheduler.ask(NEWS, ContentTypeAnswered)
    added = await scheduler.ask(ANN, SubscriptionAnswered)
    again = await scheduler.ask(ANN, SubscriptionAnswered)
    assert (saved.result, added.result) == (ContentResult.CREATED, SubscriptionResult.CREATED)
    assert again.result is SubscriptionResult.UNCHANGED
    assert added.subscription is not None
    await make_due(scheduler)
    mail = await scheduler.mail()

    assert (mail.category, mail.client, mail.to) == (Category.BULK, "shop", ("ann@example.org",))
    assert mail.id.startswith(added.subscription.subscription_id)
    assert mail.subject == "News for Ann & Bob"
    assert mail.html is not None
    assert '<p style="color: red;">Hello Ann &amp; Bob</p>' in mail.html
    link = mail.headers["List-Unsubscribe"].strip("<>")
    assert link.startswith(f"{PUBLIC_URL}/unsubscribe/")
    assert link in mail.html
    assert link in (mail.text or "")
    assert mail.headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail.headers["List-Id"] == "<news.shop.mail.example>"
    assert mail.list_id == "news"
    in_use = await scheduler.ask(
        DeleteContentType(id="q3", client="shop", name="news"), ContentTypeAnswered
    )
    assert in_use.result is ContentResult.IN_USE


async def test_an_unknown_content_type(scheduler: Scheduled) -> None:
    """A subscription to a content type that is not there is refused at once."""
    answer = await scheduler.ask(ANN, SubscriptionAnswered)

    assert answer.result is SubscriptionResult.NO_CONTENT_TYPE


async def test_a_pending_subscription_gets_a_link_alone(scheduler: Scheduled) -> None:
    """Until its subscriber has confirmed, nothing but the link is mailed."""
    await scheduler.ask(NEWS, ContentTypeAnswered)
    asked = ANN.model_copy(update={"confirm": True, "locale": "de-AT"})
    answer = await scheduler.ask(asked, SubscriptionAnswered)
    mail = await scheduler.mail()

    assert answer.subscription is not None
    assert answer.subscription.status == "pending"
    assert answer.subscription.next_at is None
    assert mail.category is Category.TRANSACTIONAL
    assert mail.subject == "Bestätigen Sie Ihr Abonnement von news"
    assert f"{PUBLIC_URL}/subscribe/" in (mail.text or "")


async def test_a_preview(scheduler: Scheduled) -> None:
    """A mail can be seen before it is sent, and so can a mistake in its variables."""
    await scheduler.ask(NEWS, ContentTypeAnswered)
    question = RenderContent(id="q5", client="shop", name="news", variables={"name": "Ann"})
    mail = await scheduler.ask(question, ContentRendered)
    wrong = await scheduler.ask(question.model_copy(update={"variables": {}}), ContentRendered)

    assert (mail.subject, mail.version) == ("News for Ann", 1)
    assert mail.text is not None
    assert mail.text.strip() == "Hello Ann"
    assert wrong.mistake == "line 1 of the subject: name is not among the variables"


async def test_many_previews_at_once(scheduler: Scheduled) -> None:
    """Previews that cost too much hold up no other question: beyond four they are refused."""
    style = "".join(f"--a{number}:1;" for number in range(9_000))
    html = f"<style>i{{{style}}}</style>" + "<i></i>" * 4_900
    await scheduler.ask(NEWS.model_copy(update={"html": html}), ContentTypeAnswered)
    question = RenderContent(id="q5", client="shop", name="news", variables={"name": "Ann"})
    previews = [
        asyncio.create_task(
            scheduler.ask(question.model_copy(update={"id": f"r{number}"}), ContentRendered)
        )
        for number in range(24)
    ]
    found = await scheduler.ask(
        DescribeContentType(id="q6", client="shop", name="news"), ContentTypeAnswered
    )
    answered, _ = await asyncio.wait(previews, return_when=asyncio.FIRST_COMPLETED)
    for each in previews:
        each.cancel()
    await asyncio.wait(previews)

    assert found.result is ContentResult.FOUND
    assert all(each.result().busy for each in answered)


def later(seconds: float, **more: object) -> SendEmail:
    """Return a command for later."""
    fields = {"id": "m1", "client": "shop", "to": ["ann@example.org"], "subject": "s", "text": "t"}
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    return SendEmail.model_validate({**fields, "scheduled_at": at, **more})


async def test_a_mail_for_later(scheduler: Scheduled) -> None:
    """A mail is published at its time, and its age counts from then."""
    command = later(1.0)
    await scheduler.broker.publish(command)
    kept, sent = await scheduler.mail(), await scheduler.mail()

    assert kept == command
    assert (sent.id, sent.scheduled_at, sent.routing_key) == (
        "m1",
        None,
        "email.send.transactional",
    )
    assert sent.created_at is not None
    assert command.scheduled_at is not None
    assert sent.created_at >= command.scheduled_at


async def test_a_mail_for_later_is_changed_and_cancelled(scheduler: Scheduled) -> None:
    """A mail that waits has another time, or is cancelled, which its outcome tells."""
    await scheduler.broker.publish(later(86_400.0))
    await scheduler.mail()
    at = datetime.now(UTC) + timedelta(days=2)
    change = RescheduleEmail(id="q1", client="shop", email_id="m1", scheduled_at=at)
    cancel = UnscheduleEmail(id="q2", client="shop", email_id="m1")
    async with tapped(scheduler.url, topology.EVENTS) as events:

        async def is_changed() -> bool:
            answer = await scheduler.ask(change, SchedulingAnswered)
            return answer.result is SchedulingResult.DONE

        await until(is_changed)  # the scheduler keeps the mail a moment after the broker
        changed = await event_of(events)
        answer = await scheduler.ask(cancel, SchedulingAnswered)
        cancelled = await event_of(events)

    assert isinstance(changed, EmailRescheduled)
    assert (changed.email_id, changed.scheduled_at) == ("m1", at)
    assert answer.result is SchedulingResult.DONE
    assert isinstance(cancelled, EmailCancelled)
    assert (cancelled.email_id, cancelled.recipient) == ("m1", "ann@example.org")


async def test_a_mail_is_cancelled_before_it_comes(scheduler: Scheduled) -> None:
    """A cancellation that overtakes its command holds."""
    cancel = UnscheduleEmail(id="q2", client="shop", email_id="m1")
    async with tapped(scheduler.url, topology.EVENTS) as events:
        answer = await scheduler.ask(cancel, SchedulingAnswered)
        await scheduler.broker.publish(later(86_400.0))
        cancelled = await event_of(events)

    assert answer.result is SchedulingResult.UNKNOWN
    assert isinstance(cancelled, EmailCancelled)


async def test_mails_wait_over_a_restart(vhost: str, tmp_path: Path) -> None:
    """They wait in the database; one that came while no scheduler ran waits at the broker."""
    async with scheduled(vhost, tmp_path) as world:
        change = RescheduleEmail(
            id="q1", client="shop", email_id="m1", scheduled_at=soon() + timedelta(days=1)
        )

        async def is_kept() -> bool:
            answer = await world.ask(change, SchedulingAnswered)
            return answer.result is SchedulingResult.DONE

        async with running(world.settings):
            await world.broker.publish(later(86_400.0))
            await until(is_kept)
        await world.broker.publish(later(0.0, id="m2"))
        async with running(world.settings):
            sent = [await world.mail() for _ in range(3)]
            now = change.model_copy(update={"scheduled_at": soon()})
            answer = await world.ask(now, SchedulingAnswered)
            sent.append(await world.mail())

    assert answer.result is SchedulingResult.DONE
    assert [(each.id, each.scheduled_at is None) for each in sent] == [
        ("m1", False),
        ("m2", False),
        ("m2", True),
        ("m1", True),
    ]


async def test_a_command_that_cannot_wait_is_a_dead_letter(scheduler: Scheduled) -> None:
    """A code for later, by whatever type, and a mail for a time too far ahead are never sent."""
    code = encode(later(1.0)).replace(b'"transactional"', b'"otp"')
    for kind in ("email.schedule.otp", "email.schedule.transactional"):
        await publish_raw(scheduler.url, topology.SCHEDULER_MAIL, code, kind)
    await scheduler.broker.publish(later(32 * 86_400.0))

    await settled(scheduler.url, topology.dead_queue(topology.SCHEDULER_MAIL), 3)


async def event_of(events: Tap) -> Contract:
    """Return the next event."""
    message = await events.next()
    return decode(message.type or "", message.body)
