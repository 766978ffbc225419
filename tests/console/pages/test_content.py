"""Content types: runs, a preview that can do nothing, and pauses."""

import html
import json

import pytest

from services.console.context import MAX_FORM_BYTES
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
from shared.template import MAX_VARIABLE_CHARS
from tests.console.answers import Answers, example
from tests.console.operator import Operator

pytestmark = pytest.mark.rabbit
PAGE = "/content/weekly?client=shop"
FORM = "/content/weekly/variables?client=shop"
FRAME = "/content/weekly/preview?client=shop"
NONE = {"unsubscribe_url": "#"}
CONTENT = example(ContentTypeAnswered).content_type
assert CONTENT is not None
PAUSED = CONTENT.model_copy(update={"paused_at": CONTENT.changed_at, "paused_for": "complaints"})
MAIL = {"version": 3, "subject": "Hello", "html": "<h1>Ann</h1>", "text": "Ann", "mistake": None}


async def test_a_content_type_is_shown_with_runs_and_preview(
    answers: Answers, operator: Operator
) -> None:
    """The variables of the form make the mail; the link to unsubscribe leads nowhere."""
    answers.set(RenderContent, ContentRendered, **MAIL, busy=False)
    await operator.get("/content?client=shop")
    variables = '{"name": "Ann"}'
    page = await operator.act(PAGE, FORM, variables=variables)
    asked = answers.last(RenderContent)

    assert answers.last(ListContentTypes).client == "shop"
    for kind in (DescribeContentType, ListRuns, RenderContent):
        found = answers.last(kind)
        assert (found.name, found.client) == ("weekly", "shop")  # type: ignore[attr-defined] # all three have them
    assert asked.variables == {"name": "Ann", "unsubscribe_url": "#"}
    assert "<h1>Ann</h1>" not in page.text
    assert html.escape(variables, quote=False) in html.unescape(page.text)
    assert '<iframe class="preview" name="preview" sandbox' in page.text
    assert 'action="/content/news/preview?client=shop" target="preview" data-now' in page.text


async def test_variables_as_long_as_the_scheduler_takes_make_a_preview(
    answers: Answers, operator: Operator
) -> None:
    """They go in no URL, which logs keep and which is short; the frame has them in a form too."""
    answers.set(RenderContent, ContentRendered, **MAIL, busy=False)
    text = "ä" * MAX_VARIABLE_CHARS
    long = json.dumps({"name": text}, ensure_ascii=False)
    page = await operator.act(PAGE, FORM, variables=long)
    shown = answers.last(RenderContent)
    frame = await operator.act(PAGE, FRAME, variables=long)
    framed = answers.last(RenderContent)
    too_long = await operator.act(PAGE, FORM, variables="x" * MAX_FORM_BYTES)

    assert shown.variables == framed.variables == {"name": text, **NONE}
    assert (page.status, frame.text) == (200, "<h1>Ann</h1>")
    assert frame.headers["Content-Security-Policy"] == PREVIEW_POLICY
    assert too_long.status == 413
    assert "The form is too long: it may have 512 kB" in too_long.words


async def test_a_preview_needs_the_token_of_its_session(
    answers: Answers, operator: Operator
) -> None:
    """Another site makes no mail with variables of its choice."""
    for path in (FORM, FRAME):
        refused = await operator.post(path, {"variables": "{}", "form_token": "0" * 64})
        assert refused.status == 403

    assert not any(isinstance(each, RenderContent) for each in answers.asked)


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
    page = await operator.act(PAGE, FORM, variables=variables[:2000])

    assert page.status == 200
    assert "must be a JSON object" in page.words
    assert all(each.variables == NONE for each in answers.asked if isinstance(each, RenderContent))


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
    answers.set(DescribeContentType, ContentTypeAnswered, content_type=PAUSED)
    page = await operator.act(PAGE, path, client="shop")
    asked = answers.last(ResumeContentType)
    answers.set(DescribeContentType, ContentTypeAnswered, content_type=None)
    gone = await operator.act("/content", path, client="shop")

    assert (asked.name, asked.client) == ("weekly", "shop")
    assert "its mails go out again" in page.words
    assert gone.status == 404
    assert "looked for" not in gone.words
    unnamed = await operator.get(path)
    assert "Without a client in the address only those of the administrator" in unnamed.words


async def test_a_content_type_that_is_not_paused_is_not_resumed(
    answers: Answers, operator: Operator
) -> None:
    """Neither the note nor the audit claims a change; of one that is gone they say so."""
    content_type = PAUSED.model_copy(update={"paused_at": None, "paused_for": None})
    answers.set(DescribeContentType, ContentTypeAnswered, content_type=content_type)
    page = await operator.act(PAGE, "/content/weekly", client="shop")
    audit = await operator.get("/audit")
    answers.set(DescribeContentType, ContentTypeAnswered, content_type=None)
    await operator.act("/content", "/content/weekly", client="shop")
    later = await operator.get("/audit")

    assert "nothing is changed: it was not paused" in page.words
    assert "nothing is changed: it was not paused" in audit.words
    assert "there is no such content type any more" in later.words
    assert not any(isinstance(each, ResumeContentType) for each in answers.asked)
