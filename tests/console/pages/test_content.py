"""Content types: runs, a preview that can do nothing, and pauses."""

from urllib.parse import quote

import pytest

from services.console.pages.content import PREVIEW_POLICY
from shared.contracts import (
    ContentRendered,
    ContentTypeAnswered,
    DescribeContentType,
    ListContentTypes,
    ListRuns,
    RenderContent,
    ResumeContentType,
)
from tests.console.answers import Answers, example
from tests.console.operator import Operator

pytestmark = pytest.mark.rabbit
PAGE = "/content/weekly?client=shop"
MAIL = {"version": 3, "subject": "Hello", "html": "<h1>Ann</h1>", "text": "Ann", "mistake": None}


async def test_a_content_type_is_shown_with_runs_and_preview(
    answers: Answers, operator: Operator
) -> None:
    """The variables of the form make the mail; the link to unsubscribe leads nowhere."""
    answers.set(RenderContent, ContentRendered, **MAIL, busy=False)
    await operator.get("/content?client=shop")
    variables = quote('{"name": "Ann"}')
    page = await operator.get(f"{PAGE}&variables={variables}")
    asked = answers.last(RenderContent)

    assert answers.last(ListContentTypes).client == "shop"
    for kind in (DescribeContentType, ListRuns, RenderContent):
        found = answers.last(kind)
        assert (found.name, found.client) == ("weekly", "shop")  # type: ignore[attr-defined] # all three have them
    assert asked.variables == {"name": "Ann", "unsubscribe_url": "#"}
    assert "<h1>Ann</h1>" not in page.text
    assert "<iframe" in page.text
    assert "sandbox" in page.text


async def test_a_preview_runs_nothing_and_loads_nothing(
    answers: Answers, operator: Operator
) -> None:
    """The HTML of a client is not trusted: it has a policy, a frame without rights."""
    answers.set(RenderContent, ContentRendered, **MAIL, busy=False)
    shown = await operator.get("/content/weekly/preview?client=shop")

    assert shown.text == "<h1>Ann</h1>"
    assert shown.headers["Content-Security-Policy"] == PREVIEW_POLICY
    assert PREVIEW_POLICY.startswith("sandbox; default-src 'none'; ")
    assert "script" not in PREVIEW_POLICY


@pytest.mark.parametrize("variables", ["x", "[1]", "[" * 100_000, '"x"'])
async def test_variables_that_are_no_object_are_explained(
    answers: Answers, operator: Operator, variables: str
) -> None:
    """The page is still there."""
    page = await operator.get(f"{PAGE}&variables={quote(variables[:2000])}")

    assert page.status == 200
    assert "must be a JSON object" in page.words
    assert not any(isinstance(each, RenderContent) for each in answers.asked)


async def test_a_mistake_in_the_variables_is_shown(answers: Answers, operator: Operator) -> None:
    """It is in the words of the scheduler."""
    answers.set(
        RenderContent, ContentRendered, **{**MAIL, "mistake": "name: is missing"}, busy=False
    )
    page = await operator.get(PAGE)
    preview = await operator.get("/content/weekly/preview")

    assert "name: is missing" in page.words
    assert preview.headers["Content-Type"].startswith("text/plain")


async def test_a_paused_content_type_goes_on(answers: Answers, operator: Operator) -> None:
    """It is named with its client."""
    path = "/content/weekly"
    page = await operator.act(PAGE, path, client="shop")
    asked = answers.last(ResumeContentType)
    answers.set(DescribeContentType, ContentTypeAnswered, content_type=None)

    assert (asked.name, asked.client) == ("weekly", "shop")
    assert "its mails go out again" in page.words
    assert (await operator.get(PAGE)).status == 404
    assert example(ContentTypeAnswered).content_type
