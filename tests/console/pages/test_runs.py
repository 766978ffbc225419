"""Runs of newsletters: what became of their mails, and mails that are sent once more."""

from datetime import UTC, datetime

import pytest

from shared.contracts import (
    ContentRun,
    ContentType,
    ContentTypeAnswered,
    CountEmails,
    DescribeContentType,
    DescribeEmail,
    EmailDescribed,
    EmailRecord,
    EmailsListed,
    EmailsRepeated,
    EmailStatus,
    ListEmails,
    ListRuns,
    RepeatEmails,
    RunsListed,
)
from shared.contracts.content import NewsletterId, run_id
from tests.console.answers import Answers, example
from tests.console.operator import Operator

pytestmark = pytest.mark.rabbit
PERIOD = datetime(2026, 11, 2, 7, 30, tzinfo=UTC)
RUN = run_id("weekly", PERIOD)
PATH = f"/content/weekly/runs/{RUN}"
PAGE = f"{PATH}?client=shop"
MAIL = NewsletterId("0" * 32, PERIOD)


def run() -> ContentRun:
    """Return the run of the tests."""
    (found,) = example(RunsListed).runs
    changes = {"run_id": RUN, "content_type": "weekly", "client": "shop", "period_at": PERIOD}
    return found.model_copy(update=changes)


def content(paused_at: datetime | None) -> ContentType:
    """Return the content type of the run."""
    found = example(ContentTypeAnswered).content_type
    assert found is not None
    return found.model_copy(update={"paused_at": paused_at})


def mail(status: EmailStatus) -> EmailRecord:
    """Return a mail of the run."""
    found = example(EmailDescribed).email
    assert found is not None
    recipient = found.recipients[0].model_copy(update={"status": status})
    changes = {"email_id": str(MAIL), "tags": {"run": RUN}, "recipients": (recipient,)}
    return found.model_copy(update=changes)


@pytest.fixture
def failed(answers: Answers) -> Answers:
    """Answer with a run of which a mail has failed."""
    answers.set(ListRuns, RunsListed, runs=(run(),), next=None)
    answers.set(DescribeContentType, ContentTypeAnswered, content_type=content(paused_at=None))
    emails = (mail(EmailStatus.FAILED),)
    answers.set(ListEmails, EmailsListed, emails=emails, next="0" * 16)
    answers.set(DescribeEmail, EmailDescribed, email=emails[0])
    return answers


async def test_a_run_is_shown_with_the_mails_that_did_not_arrive(
    failed: Answers, operator: Operator
) -> None:
    """The sums are those of the run's tag; a status and a page can be chosen."""
    page = await operator.get(f"{PAGE}&status=expired&after={'1' * 16}")
    asked, counted = failed.last(ListEmails), failed.last(CountEmails)
    failed.set(ListRuns, RunsListed, runs=(), next=None)

    assert page.status == 200
    assert "Send these 1 once more" in page.words
    assert f"could not be made, since variables do not fit {run().unfit}" in page.words
    assert (asked.status, asked.after, asked.client) == ("expired", "1" * 16, "shop")
    assert asked.tag == counted.tag == f"run:{RUN}"
    assert f"status=expired&amp;after={'0' * 16}" in page.text
    assert (await operator.get(f"{PAGE}&status=delivered")).status == 400
    assert (await operator.get(PAGE)).status == 404
    assert (await operator.get("/content/weekly/runs/x")).status == 404


async def test_mails_are_sent_once_more_and_the_next_page_is_shown(
    failed: Answers, operator: Operator
) -> None:
    """The scheduler is asked for the mails that have no repetition yet; the audit has the run."""
    first = example(EmailDescribed, email=mail(EmailStatus.FAILED))
    nothing = example(EmailDescribed, email=None)
    failed.by_question[DescribeEmail] = lambda q: first if q.email_id == str(MAIL) else nothing
    failed.set(RepeatEmails, EmailsRepeated, email_ids=(str(MAIL),))
    sent = await operator.act(PAGE, PAGE)
    asked = failed.last(RepeatEmails)
    failed.set(DescribeEmail, EmailDescribed, email=first.email)
    again = await operator.act(PAGE, PAGE)
    audit = (await operator.get("/audit")).words

    assert (asked.name, asked.client, asked.run_id) == ("weekly", "shop", RUN)
    assert asked.email_ids == (str(MAIL),)
    assert "1 is sent once more" in sent.words
    assert f"after={'0' * 16}" in sent.url
    assert "0 are sent once more; 1 were sent once more before" in again.words
    assert "after" not in again.url
    assert f"send mails once more weekly: {RUN} 1 is sent once more" in audit


async def test_nothing_of_a_paused_content_type_is_sent_once_more(
    failed: Answers, operator: Operator
) -> None:
    """The operator learns what to do first."""
    paused = content(paused_at=PERIOD)
    failed.set(DescribeContentType, ContentTypeAnswered, content_type=paused)
    page = await operator.act(PAGE, PAGE)

    assert "the content type is paused: let its mails go out again first" in page.words
    assert not any(isinstance(each, RepeatEmails) for each in failed.asked)
