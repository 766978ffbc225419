"""Webhooks: endpoints, events, tries, and what may be done."""

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
