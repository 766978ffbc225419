"""Mails that are made in a process of their own, which is ended when one takes too much."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from services.scheduler.content import Content, MailRequest
from services.scheduler.rendering import MAX_STRIKES, Renderer, RenderingError, rendering
from shared.template import RenderedMail, VariableMistake
from tests.waiting import until

LINK = "https://mail.example/unsubscribe/AbC_-123"


def content(html: str, subject: str = "Hi {{ name }}") -> Content:
    """Return a content type."""
    return Content("news", None, 1, paused=False, subject=subject, html=html, text=None)


GOOD = content("<style>p{color:red}</style><p>Hello {{ name }}")
# One wide cell, and 5,000 rows that are filled up to its width: 250 MB of text.
WIDE = content(f"<table><tr><td>{'a' * 50_000}<td>b{'<tr><td>x<td>y' * 5_000}</table>")
# Each of 4,900 elements gets 9,000 declarations, each of which is looked for among the others.
STYLED = content(
    f"<style>i{{{''.join(f'--a{number}:1;' for number in range(9_000))}}}</style>"
    + "<i></i>" * 4_900
)


@pytest.fixture
async def renderer() -> AsyncIterator[Renderer]:
    """Return a process that makes mails."""
    async with rendering() as found:
        yield found


async def made(renderer: Renderer, *contents: Content) -> list[str]:
    """Return what became of mails to Ann."""
    answers = await renderer.render([MailRequest(each, '{"name":"Ann"}') for each in contents])
    return [each.subject if isinstance(each, RenderedMail) else str(each) for each in answers]


async def pid(renderer: Renderer) -> int:
    """Return the id of the process as soon as it runs."""
    found = list[int]()

    async def runs() -> bool:
        if process := renderer._process.pid:
            found.append(process)
        return bool(found)

    await until(runs)
    return found[0]


async def test_a_mail_is_the_same_as_without_the_process(renderer: Renderer) -> None:
    """A mail is made of the content type, the variables, the link and the language."""
    (mail,) = await renderer.render([MailRequest(GOOD, '{"name":"Ann"}', LINK, "de")])

    assert mail == GOOD.render({"name": "Ann", "unsubscribe_url": LINK}, LINK, "de")


@pytest.mark.parametrize("bad", [WIDE, STYLED], ids=["text", "styles"])
async def test_a_mail_that_takes_too_much_is_given_up(renderer: Renderer, bad: Content) -> None:
    """A content type can be made so that its mail takes hours; the mails beside it are made."""
    before, slow, after = await made(renderer, GOOD, bad, GOOD)

    assert (before, after) == ("Hi Ann", "Hi Ann")
    assert slow == "the mail takes too long or too much memory to be made"


async def test_a_content_type_that_always_takes_too_much(renderer: Renderer) -> None:
    """Its mails are given up at once in the end, so that those of others do not wait for it."""
    await made(renderer, GOOD, *[STYLED] * MAX_STRIKES, GOOD)
    process = await pid(renderer)
    answers = await made(renderer, GOOD, *[STYLED] * 100, GOOD)

    assert answers[0] == answers[-1] == "Hi Ann"
    assert len({*answers}) == 2
    assert await pid(renderer) == process


async def test_other_work_goes_on_meanwhile(renderer: Renderer) -> None:
    """The event loop of the service turns while a mail is made."""
    task = asyncio.create_task(made(renderer, STYLED))
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1

    assert turns > 1000


async def test_mistakes_are_those_of_each_mail(renderer: Renderer) -> None:
    """A mistake in the variables of one mail is told in words, and the others are made."""
    requests = [MailRequest(GOOD, each) for each in ("{}", '{"name":"Ann"}')]
    mistake, mail = await renderer.render(requests)

    assert isinstance(mistake, VariableMistake)
    assert str(mistake) == "line 1 of the subject: name is not among the variables"
    assert isinstance(mail, RenderedMail)


async def test_a_process_that_is_killed_blames_no_mail(renderer: Renderer) -> None:
    """A process that somebody ends is replaced, and its mail may be asked for again."""
    task = asyncio.create_task(renderer.render([MailRequest(STYLED, "{}")]))
    os.kill(await pid(renderer), signal.SIGKILL)
    (answer,) = await task

    assert isinstance(answer, RenderingError)
    assert await made(renderer, GOOD) == ["Hi Ann"]


async def test_a_question_that_is_given_up_leaves_nothing_behind(renderer: Renderer) -> None:
    """After a cancellation the next mail is its own, and not that of the question before."""
    task = asyncio.create_task(made(renderer, STYLED, content("<p>", "Other")))
    await pid(renderer)
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert await made(renderer, GOOD) == ["Hi Ann"]
