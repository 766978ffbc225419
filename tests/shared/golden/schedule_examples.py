"""One example of every contract of the scheduler, with every field set."""

from datetime import timedelta
from typing import Any

from shared.contracts import (
    ConfirmSubscription,
    ContentRendered,
    ContentResult,
    ContentRun,
    ContentSummary,
    ContentType,
    ContentTypeAnswered,
    ContentTypePaused,
    ContentTypesListed,
    Contract,
    DeleteContentType,
    DescribeContentType,
    DescribeSubscription,
    EmailRescheduled,
    EmailsRepeated,
    EndSubscription,
    ListContentTypes,
    ListRuns,
    ListSubscriptions,
    Missed,
    NewsletterSubscription,
    RenderContent,
    RepeatEmails,
    RescheduleEmail,
    ResumeContentType,
    RunsListed,
    SaveContentType,
    SchedulingAnswered,
    SchedulingResult,
    Subscribe,
    SubscriptionAnswered,
    SubscriptionResult,
    SubscriptionsListed,
    SubscriptionStatus,
    UnscheduleEmail,
)
from shared.contracts.content import run_id
from shared.contracts.schedule import subscription_id
from tests.shared.golden.ledger_examples import AT, EMAIL, EVENT

TEMPLATES: dict[str, Any] = {
    "subject": "News for {{ name }}",
    "html": "<p>Hello {{ name }}</p>",
    "text": "Hello {{ name }}",
}
SUMMARY: dict[str, Any] = {
    "name": "news",
    "client": "shop",
    "version": 2,
    "subject": TEMPLATES["subject"],
    "title": "News of the shop",
    "created_at": AT,
    "changed_at": AT + timedelta(days=1),
    "paused_at": AT + timedelta(days=2),
    "paused_for": "12 of 100 mailboxes are unknown",
}
SUBSCRIPTION: dict[str, Any] = {
    "client": "shop",
    "email": "ann@example.org",
    "content_type": "news",
    "frequency": "@weekly",
    "timezone": "Europe/Berlin",
    "at": "mon 08:30",
    "variables": {"name": "Ann", "items": [{"price": 3}]},
    "missed": Missed.ALL,
    "retries": 3,
    "locale": "de",
}
ID = subscription_id("shop", "news", "ann@example.org")
DESCRIBED = NewsletterSubscription(
    **SUBSCRIPTION,
    subscription_id=ID,
    status=SubscriptionStatus.ACTIVE,
    created_at=AT,
    next_at=AT + timedelta(days=3),
)
RUN = run_id("news", AT)

SCHEDULE_EXAMPLES: tuple[Contract, ...] = (
    SaveContentType(
        id=EMAIL, client="shop", name="news", replaces=True, title="News of the shop", **TEMPLATES
    ),
    DescribeContentType(id=EMAIL, client="shop", name="news"),
    DeleteContentType(id=EMAIL, client="shop", name="news"),
    ResumeContentType(id=EMAIL, client="shop", name="news"),
    ContentTypeAnswered(
        id=EMAIL,
        result=ContentResult.CHANGED,
        content_type=ContentType(**{**SUMMARY, **TEMPLATES}),
    ),
    ListContentTypes(id=EMAIL, client="shop", paused=True, after="shop/news", limit=10),
    ContentTypesListed(id=EMAIL, content_types=(ContentSummary(**SUMMARY),), next="shop/news"),
    RenderContent(id=EMAIL, client="shop", name="news", variables={"name": "Ann"}),
    ContentRendered(
        id=EMAIL,
        version=2,
        subject="News for Ann",
        html="<p>Hello Ann</p>",
        text="Hello Ann",
        mistake="line 1 of the html: name is not among the variables",
        busy=True,
    ),
    ContentTypePaused(
        id=EVENT, at=AT, name="news", client="shop", reason="12 of 100 mailboxes are unknown"
    ),
    Subscribe(id=EMAIL, **SUBSCRIPTION, confirm=True),
    DescribeSubscription(id=EMAIL, client="shop", subscription_id=ID),
    ConfirmSubscription(id=EMAIL, subscription_id=ID),
    EndSubscription(id=EMAIL, client="shop", subscription_id=ID),
    SubscriptionAnswered(id=EMAIL, result=SubscriptionResult.CHANGED, subscription=DESCRIBED),
    ListSubscriptions(
        id=EMAIL, client="shop", email="ann@example.org", content_type="news", after=ID, limit=10
    ),
    SubscriptionsListed(id=EMAIL, subscriptions=(DESCRIBED,), next=ID),
    ListRuns(id=EMAIL, client="shop", name="news", after=AT, limit=10),
    RunsListed(
        id=EMAIL,
        runs=(
            ContentRun(
                run_id=RUN,
                content_type="news",
                client="shop",
                period_at=AT,
                published=100,
                unknown_mailboxes=12,
                complaints=1,
                unfit=3,
            ),
        ),
        next=AT,
    ),
    RepeatEmails(id=EMAIL, client="shop", name="news", run_id=RUN, email_ids=(EVENT,)),
    EmailsRepeated(id=EMAIL, email_ids=(EVENT,)),
    RescheduleEmail(id=EMAIL, client="shop", email_id=EVENT, scheduled_at=AT),
    UnscheduleEmail(id=EMAIL, client="shop", email_id=EVENT),
    SchedulingAnswered(id=EMAIL, result=SchedulingResult.DONE),
    EmailRescheduled(
        id=EVENT, at=AT, email_id=EMAIL, client="shop", scheduled_at=AT + timedelta(hours=1)
    ),
)
