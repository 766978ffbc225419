"""Subscriptions: found by address, ended."""

import pytest

from shared.contracts import (
    EndSubscription,
    ListSubscriptions,
    SubscriptionAnswered,
    SubscriptionResult,
    SubscriptionsListed,
)
from tests.console.answers import Answers
from tests.console.operator import Operator

pytestmark = pytest.mark.rabbit
PAGE = "/subscriptions"


async def test_subscriptions_of_an_address_are_found(answers: Answers, operator: Operator) -> None:
    """An empty list differs by whether something was asked for."""
    await operator.get(f"{PAGE}?email=ada%40example.com&content_type=weekly&client=")
    asked = answers.last(ListSubscriptions)
    answers.set(ListSubscriptions, SubscriptionsListed, subscriptions=(), next=None)
    nothing, unfit = await operator.get(PAGE), await operator.get(f"{PAGE}?client=shop")

    assert (asked.email, asked.content_type, asked.client) == ("ada@example.com", "weekly", None)
    assert "POST /v1/subscriptions" in nothing.words
    assert "No subscription fits" in unfit.words


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (SubscriptionResult.ENDED, "it has ended"),
        (SubscriptionResult.UNKNOWN, "there was no such subscription any more"),
    ],
)
async def test_a_subscription_is_ended(
    answers: Answers, operator: Operator, result: SubscriptionResult, words: str
) -> None:
    """The page that was searched for is shown again."""
    answers.set(EndSubscription, SubscriptionAnswered, result=result)
    page = await operator.act(PAGE, PAGE, subscription_id="s-1", client="shop")

    assert answers.last(EndSubscription).subscription_id == "s-1"
    assert answers.last(ListSubscriptions).client == "shop"
    assert words in page.words
