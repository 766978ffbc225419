"""One example of every contract of the webhooks, with every field set."""

from datetime import timedelta
from typing import Any

from shared.contracts import (
    Category,
    ChangeWebhook,
    Contract,
    CreateWebhook,
    DeleteWebhook,
    DeliveryStatus,
    DescribeWebhook,
    DisabledFor,
    ListWebhookDeliveries,
    ListWebhooks,
    ListWebhookTries,
    ReplayWebhook,
    RotateWebhookSecret,
    SendTestEvent,
    Webhook,
    WebhookAnswered,
    WebhookDeliveriesListed,
    WebhookDelivery,
    WebhookDisabled,
    WebhookReplayed,
    WebhookResult,
    WebhooksListed,
    WebhookTriesListed,
    WebhookTry,
)
from tests.shared.golden.ledger_examples import AT, EMAIL, EVENT

URL = "https://shop.example/hooks?from=postrider"
WISHES: dict[str, Any] = {
    "events": ("email.*", "code.verified"),
    "categories": (Category.TRANSACTIONAL,),
    "tags": ("order", "run:1"),
    "description": "the shop",
}
WEBHOOK = Webhook(
    webhook_id="w1",
    client="shop",
    url=URL,
    **WISHES,
    created_at=AT,
    changed_at=AT + timedelta(days=1),
    disabled_at=AT + timedelta(days=5),
    disabled_for=DisabledFor.FAILING,
    failing_since=AT + timedelta(days=2),
    failures=152,
    old_secret_until=AT + timedelta(days=6),
)
OWN: dict[str, Any] = {"id": EMAIL, "client": "shop", "webhook_id": "w1"}
MESSAGE = "msg_9f86d081884c7d659a2feaa0c55ad015"
DELIVERY_CURSOR = f"1782900000000-{MESSAGE}"
TRY_CURSOR = f"{DELIVERY_CURSOR}-1"

WEBHOOK_EXAMPLES: tuple[Contract, ...] = (
    CreateWebhook(id=EMAIL, client="shop", registered_at=AT, url=URL, **WISHES),
    ChangeWebhook(**OWN, url=URL, **WISHES, enabled=True),
    DescribeWebhook(**OWN),
    DeleteWebhook(**OWN),
    RotateWebhookSecret(**OWN, old_seconds=3600.0),
    WebhookAnswered(
        id=EMAIL,
        result=WebhookResult.CREATED,
        webhook=WEBHOOK,
        secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=",
    ),
    ListWebhooks(id=EMAIL, client="shop", failing=True, after="w0", limit=2),
    WebhooksListed(id=EMAIL, webhooks=(WEBHOOK,), next="w1"),
    SendTestEvent(**OWN),
    ReplayWebhook(
        **OWN, message_id=MESSAGE, since=AT, until=AT + timedelta(days=1), delivered=True
    ),
    WebhookReplayed(id=EMAIL, result=WebhookResult.FOUND, count=2, message_id=MESSAGE),
    ListWebhookDeliveries(**OWN, status=DeliveryStatus.HELD, after=DELIVERY_CURSOR, limit=2),
    WebhookDeliveriesListed(
        id=EMAIL,
        result=WebhookResult.FOUND,
        deliveries=(
            WebhookDelivery(
                message_id=MESSAGE,
                type="email.delivered",
                at=AT,
                status=DeliveryStatus.WAITING,
                tries=2,
                next_at=AT + timedelta(seconds=15),
            ),
        ),
        next=DELIVERY_CURSOR,
    ),
    ListWebhookTries(**OWN, message_id=MESSAGE, after=TRY_CURSOR, limit=2),
    WebhookTriesListed(
        id=EMAIL,
        result=WebhookResult.FOUND,
        tries=(
            WebhookTry(
                message_id=MESSAGE,
                number=1,
                at=AT,
                url=URL,
                headers={"webhook-id": MESSAGE},
                body='{"type":"email.delivered"}',
                status=500,
                answer_headers={"Content-Type": "text/plain"},
                answer="sorry",
                error="the answer broke off",
                seconds=0.25,
            ),
        ),
        next=TRY_CURSOR,
    ),
    WebhookDisabled(
        id=EVENT, at=AT, webhook_id="w1", client="shop", url=URL, reason=DisabledFor.GONE
    ),
)
