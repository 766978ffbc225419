"""Webhooks: endpoints, events, tries, and what may be done."""

from datetime import UTC, datetime

import pytest

from shared.contracts import (
    ChangeWebhook,
    Contract,
    DeliveryStatus,
    DescribeWebhook,
    ListWebhookDeliveries,
    ListWebhooks,
    ListWebhookTries,
    ReplayWebhook,
    SendTestEvent,
    WebhookAnswered,
    WebhookDeliveriesListed,
    WebhookDelivery,
    WebhookReplayed,
    WebhookResult,
    WebhooksListed,
    WebhookTriesListed,
)
from tests.console.answers import Answers, example
from tests.console.operator import Operator

pytestmark = pytest.mark.rabbit
PAGE = "/webhooks/w-1"
(WEBHOOK, *_) = example(WebhooksListed).webhooks


async def test_endpoints_events_and_tries_are_shown(answers: Answers, operator: Operator) -> None:
    """From an endpoint to its events, and to what was sent and answered."""
    listed = await operator.get("/webhooks?client=shop")
    shown = await operator.get(f"{PAGE}?status=failed")
    tried = await operator.get(f"{PAGE}/tries?message_id=e-1")

    assert answers.last(ListWebhooks).client == "shop"
    assert WEBHOOK.url in listed.words
    assert "Send a test event" in shown.words
    assert answers.last(ListWebhookDeliveries).status is DeliveryStatus.FAILED
    assert answers.last(ListWebhookTries).message_id == "e-1"
    for each in example(WebhookTriesListed).tries:
        assert each.url in tried.words


@pytest.mark.parametrize(
    ("act", "kind", "fields"),
    [
        ("test", SendTestEvent, {}),
        ("replay", ReplayWebhook, {"delivered": False}),
        ("disable", ChangeWebhook, {"enabled": False, "url": None}),
        ("enable", ChangeWebhook, {"enabled": True, "url": None}),
    ],
)
async def test_an_action_asks_for_it_alone(
    answers: Answers, operator: Operator, act: str, kind: type[Contract], fields: dict[str, object]
) -> None:
    """Each button asks one question about this endpoint, and the audit has it."""
    page = await operator.act(PAGE, PAGE, act=act)
    asked = answers.last(kind)

    assert page.url.startswith(f"{operator.url}{PAGE}")
    assert asked.model_dump(include={"webhook_id", *fields}) == {"webhook_id": "w-1", **fields}
    assert f"{act} webhook w-1" in (await operator.get("/audit")).words


async def test_results_are_told_in_words(answers: Answers, operator: Operator) -> None:
    """A disabled endpoint gets no replay, and an endpoint may be gone."""
    answers.set(ReplayWebhook, WebhookReplayed, result=WebhookResult.DISABLED)
    disabled = await operator.act(PAGE, PAGE, act="replay")
    answers.set(DescribeWebhook, WebhookAnswered, webhook=None, result=WebhookResult.UNKNOWN)
    gone = await operator.get(PAGE)
    wrong = await operator.act("/webhooks", PAGE, act="delete")

    assert "enable it first" in disabled.words
    assert gone.status == 404
    assert wrong.status == 400


async def test_events_are_queued_and_not_yet_sent(answers: Answers, operator: Operator) -> None:
    """The note claims no more than the service has answered, in the right number."""
    for count, words in ((1, "1 event is queued to be sent"), (2, "2 events are queued")):
        answers.set(ReplayWebhook, WebhookReplayed, result=WebhookResult.FOUND, count=count)
        assert words in (await operator.act(PAGE, PAGE, act="replay")).words

    answers.set(SendTestEvent, WebhookReplayed, result=WebhookResult.FOUND, count=1)
    assert "a test event is queued: look" in (await operator.act(PAGE, PAGE, act="test")).words


async def test_a_replay_that_sends_nothing_says_why(answers: Answers, operator: Operator) -> None:
    """Events that wait for their turn are not called delivered; the next try has its time."""
    answers.set(ReplayWebhook, WebhookReplayed, result=WebhookResult.FOUND, count=0)
    at = datetime(2026, 11, 1, 8, 30, tzinfo=UTC)
    waiting = tuple(
        WebhookDelivery(
            message_id=f"e-{minute}",
            type="email.bounced",
            at=at,
            status=DeliveryStatus.WAITING,
            tries=1,
            next_at=next_at,
        )
        for minute, next_at in enumerate((None, at.replace(minute=45), at.replace(minute=40)))
    )
    answers.set(ListWebhookDeliveries, WebhookDeliveriesListed, deliveries=waiting, next=None)
    waits = await operator.act(PAGE, PAGE, act="replay")
    asked = answers.asked[answers.asked.index(answers.last(ReplayWebhook)) + 1]
    one = await operator.act(PAGE, PAGE, act="replay", message_id="e-1")
    answers.set(ListWebhookDeliveries, WebhookDeliveriesListed, deliveries=(), next=None)
    nothing = await operator.act(PAGE, PAGE, act="replay")

    assert isinstance(asked, ListWebhookDeliveries)
    assert asked.status is DeliveryStatus.WAITING
    assert "wait for their turn already: 3; the next try is at 08:40:00 UTC" in waits.words
    assert "a request with this event is under way" in one.words
    assert "there is nothing to send: all its events were delivered" in nothing.words
