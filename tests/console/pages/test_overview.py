"""The overview: endpoints and content types that stand still need an operator."""

from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from services.console.context import PageContext
from services.console.pages.overview import problems
from services.console.sampling import Sampler
from shared.contracts import (
    ContentTypesListed,
    ListContentTypes,
    ListWebhooks,
    Webhook,
    WebhooksListed,
)
from tests.console.answers import Answers, example
from tests.console.operator import Operator, declare, settings, visiting
from tests.waiting import until

AT = datetime(2026, 11, 1, tzinfo=UTC)
WEBHOOK = example(WebhooksListed).webhooks[0]
CONTENT = example(ContentTypesListed).content_types[0]
SERVICES = ("webhooks", "scheduler")
FAILING = WEBHOOK.model_copy(
    update={"webhook_id": "w/1", "failing_since": AT, "disabled_at": None, "disabled_for": None}
)


def tasks(webhooks: tuple[Webhook, ...], contents: int, following: str | None = None) -> set[str]:
    """Return the texts and paths of what needs an operator, by the last looks."""
    sampler = Sampler(cast("PageContext", None), lambda: AT)
    sampler.failing_webhooks = WebhooksListed(id="q", webhooks=webhooks, next=following)
    found = (CONTENT.model_copy(update={"name": "a b", "client": "shop"}),) * contents
    sampler.paused_content = ContentTypesListed(id="q", content_types=found)
    return {f"{each.text}: {each.path}" for each in problems(sampler)}


def test_what_stands_still_needs_an_operator() -> None:
    """One leads to its own page, several to their list, with their number."""
    disabled = FAILING.model_copy(update={"disabled_at": AT})

    assert tasks((), 0) == set()
    assert tasks((FAILING,), 0) == {f"the endpoint {WEBHOOK.url} fails: /webhooks/w%2F1"}
    assert tasks((disabled,), 0) == {f"the endpoint {WEBHOOK.url} is disabled: /webhooks/w%2F1"}
    assert tasks((), 1) == {"the content type a b is paused: /content/a%20b?client=shop"}
    assert tasks((FAILING, disabled), 2, "w2") == {
        "2 or more endpoints fail, or are disabled since they failed: /webhooks",
        "2 content types are paused: /content",
    }


@pytest.mark.rabbit
async def test_the_console_looks_for_what_stands_still(
    answers: Answers, operator: Operator
) -> None:
    """It asks by itself, and only for what fails or is paused; else nothing needs anybody."""

    async def shown() -> bool:
        words = (await operator.get("/")).words
        return f"the endpoint {WEBHOOK.url}" in words and "the content type" in words

    await until(shown)

    assert answers.last(ListWebhooks).failing
    assert answers.last(ListContentTypes).paused


@pytest.mark.rabbit
async def test_a_look_without_an_answer_is_named(vhost: str, tmp_path: Path) -> None:
    """That nothing is known of endpoints and content types is not that nothing is wrong."""
    await declare(vhost)

    async def shown() -> bool:
        words = (await operator.get("/")).words
        needs = words.partition("What needs you")[2].partition("Mails a second")[0]
        return all(f"The service {each} did not answer" in needs for each in SERVICES)

    async with visiting(settings(vhost, tmp_path, console_answer_seconds=0.1)) as operator:
        await operator.log_in()
        await until(shown)
