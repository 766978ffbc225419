"""Mails: found, shown with their whole life, cancelled."""

from datetime import timedelta

import pytest

from shared.contracts import (
    CancelEmail,
    DescribeEmail,
    EmailDescribed,
    EmailsListed,
    EmailStatus,
    ListEmails,
    Reply,
    SchedulingAnswered,
    SchedulingResult,
    Stage,
    UnscheduleEmail,
)
from tests.console.answers import Answers, example
from tests.console.operator import Operator

pytestmark = pytest.mark.rabbit
DESCRIBED = example(EmailDescribed)
assert DESCRIBED.email is not None
EMAIL = DESCRIBED.email
(FIRST, *_) = EMAIL.recipients
WAITING = EMAIL.model_copy(
    update={"recipients": (FIRST.model_copy(update={"status": EmailStatus.DEFERRED}),)}
)


async def test_mails_of_a_recipient_are_found(answers: Answers, operator: Operator) -> None:
    """Empty fields of the form are no filter; the next page keeps the others."""
    path = "/messages?recipient=ada%40example.com&status=bounced&client=&category="
    page = await operator.get(path)
    asked = answers.last(ListEmails)

    assert (asked.recipient, asked.status) == ("ada@example.com", EmailStatus.BOUNCED)
    assert (asked.client, asked.category) == (None, None)
    assert str(EMAIL.subject) in page.words
    if example(EmailsListed).next:
        assert "recipient=ada%40example.com&amp;status=bounced&amp;after=" in page.text


async def test_a_mistake_in_the_form_is_explained(answers: Answers, operator: Operator) -> None:
    """The ledger is not asked for what cannot be."""
    page = await operator.get("/messages?recipient=nobody&status=lost")

    assert page.status == 400
    assert "recipient: " in page.words
    assert not any(isinstance(each, ListEmails) for each in answers.asked)


async def test_nothing_found_says_what_to_do(answers: Answers, operator: Operator) -> None:
    """An empty list differs by whether something was asked for."""
    answers.set(ListEmails, EmailsListed, emails=(), next=None)
    nothing = await operator.get("/messages")
    unfit = await operator.get("/messages?client=shop")

    assert "POST /v1/messages" in nothing.words
    assert "No mail fits" in unfit.words


async def test_a_mail_is_shown_from_its_acceptance_to_the_last_reply(
    answers: Answers, operator: Operator
) -> None:
    """Each attempt has its time and its reply; of a mail that is over it is shown how long."""
    page = await operator.get("/messages/m-1?client=shop")
    asked = answers.last(DescribeEmail)

    assert (asked.email_id, asked.client) == ("m-1", "shop")
    assert "accepted" in page.words
    for entry in DESCRIBED.history:
        assert entry.reply is None or entry.reply.text in page.words
    assert FIRST.recipient in page.words
    assert "From acceptance to the last reply" in page.words


async def test_what_is_no_reply_has_no_code(answers: Answers, operator: Operator) -> None:
    """A connection that the server has closed has no reply code, and so not the code 0."""
    reply = Reply(stage=Stage.DATA, code=0, text="closed by the server")
    closed = FIRST.model_copy(update={"reply": reply})
    email = EMAIL.model_copy(update={"recipients": (closed,)})
    answers.set(DescribeEmail, EmailDescribed, email=email, history=())
    page = await operator.get("/messages/m-1?client=shop")

    assert '<span class="reason">closed by the server</span>' in page.text


async def test_an_id_of_several_clients_is_a_choice(answers: Answers, operator: Operator) -> None:
    """Without a client the names of all are shown; one of them is no client."""
    answers.set(DescribeEmail, EmailDescribed, email=None, history=(), clients=("", "shop"))
    several = await operator.get("/messages/m-1")
    answers.set(DescribeEmail, EmailDescribed, email=None, history=(), clients=(), forgotten=True)
    forgotten = await operator.get("/messages/m-1")
    answers.set(DescribeEmail, EmailDescribed, email=None, history=(), clients=(), forgotten=False)
    unknown = await operator.get("/messages/m-1")

    assert (several.status, forgotten.status, unknown.status) == (200, 404, 404)
    assert 'href="/messages/m-1?client="' in several.text
    assert 'href="/messages/m-1?client=shop"' in several.text
    assert "forgotten" in forgotten.words
    assert "There is no such mail" in unknown.words


@pytest.mark.parametrize("is_with_scheduler", [True, False])
async def test_a_mail_for_later_is_cancelled_where_it_is(
    answers: Answers, operator: Operator, *, is_with_scheduler: bool
) -> None:
    """The scheduler is asked first, and the sender if it has gone on its way."""
    later = WAITING.model_copy(update={"scheduled_at": EMAIL.accepted_at + timedelta(days=1)})
    answers.set(DescribeEmail, EmailDescribed, email=later)
    result = SchedulingResult.DONE if is_with_scheduler else SchedulingResult.UNKNOWN
    answers.set(UnscheduleEmail, SchedulingAnswered, result=result)
    page = await operator.act("/messages/m-1", "/messages/m-1")
    asked = [each for each in answers.asked if isinstance(each, UnscheduleEmail | CancelEmail)]

    assert all(each.client == later.client for each in asked)
    assert [type(each) for each in asked] == [UnscheduleEmail, CancelEmail][: 2 - is_with_scheduler]
    assert ("it will not be sent" in page.words) is is_with_scheduler
    assert "cancel mail" in (await operator.get("/audit")).words


async def test_a_mail_now_is_cancelled_by_the_sender(answers: Answers, operator: Operator) -> None:
    """The scheduler does not know it."""
    answers.set(
        DescribeEmail, EmailDescribed, email=WAITING.model_copy(update={"scheduled_at": None})
    )
    await operator.act("/messages/m-1", "/messages/m-1")

    assert answers.last(CancelEmail).email_id == EMAIL.email_id
    assert not any(isinstance(each, UnscheduleEmail) for each in answers.asked)
