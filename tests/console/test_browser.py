"""The pages in a browser: accessible, live, and with nothing inline or from elsewhere."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.console.rendering import NAVIGATION
from shared.contracts import ContentRendered, RenderContent
from tests.browser import NEEDS_CHROMIUM, Page, chromium
from tests.console.answers import PAGES, Answers, answering
from tests.console.operator import DELAYS, TOKEN, Operator, declare, settings, visiting
from tests.modules import ROOT
from tests.ops.dying import LETTERS, QUEUE, handled, mail, refuse, rejected
from tests.waiting import until

pytestmark = [pytest.mark.rabbit, NEEDS_CHROMIUM]
AXE = (ROOT / "tests/console/axe/axe.min.js").read_text()
DESK, PHONE = (1200, 900), (390, 844)
LETTERS_PATH = f"/dead-letters/{LETTERS}"
WATCH = """
window.faults = [];
document.addEventListener("securitypolicyviolation", (e) => faults.push(e.effectiveDirective));
window.addEventListener("error", (e) => faults.push(e.message));
window.addEventListener("unhandledrejection", (e) => faults.push(String(e.reason)));
"""
CHECK = """
axe.run({runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
  .then((found) => found.violations
    .map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(" | ")}`))
"""
ORIGINS = """
[...new Set(performance.getEntriesByType("resource").map((e) => e.name)
  .filter((name) => !name.startsWith("data:")).map((name) => new URL(name).origin))]
"""


@pytest.fixture
async def answers(vhost: str) -> AsyncIterator[Answers]:
    """Answer the console's questions, beside a dead letter."""
    await declare(vhost, QUEUE, LETTERS, *DELAYS)
    await rejected(vhost, "m-1")
    async with answering(vhost) as found:
        yield found


@pytest.fixture
async def operator(vhost: str, tmp_path: Path, answers: Answers) -> AsyncIterator[Operator]:
    """Run a console beside services that answer."""
    del answers
    async with visiting(settings(vhost, tmp_path)) as found:
        yield found


@pytest.fixture
async def page(operator: Operator, tmp_path: Path) -> AsyncIterator[Page]:
    """Log in by a browser."""
    with chromium(tmp_path / "chromium") as debugger:
        async with Page.opened(debugger) as found:
            await found.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
            await found.resize(*DESK)
            await found.go(f"{operator.url}/login")
            assert await checked(found) == []
            await found.value("document.getElementById('token').focus()")
            await found.write(TOKEN)
            await found.click("button.first")
            await found.wait("location.pathname === '/' && document.readyState === 'complete'")
            yield found


async def checked(page: Page) -> Any:  # noqa: ANN401 -- a list of texts
    """Return the faults of accessibility, as axe-core finds them."""
    await page.value(AXE)
    return await page.value(CHECK)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_is_accessible_and_keeps_to_its_policy(
    operator: Operator, page: Page, size: tuple[int, int], scheme: str
) -> None:
    """Contrast, labels and names are those of WCAG AA; the page is no wider than the screen."""
    await page.resize(*size, scheme=scheme)
    for path in (*NAVIGATION, *PAGES, LETTERS_PATH, f"{LETTERS_PATH}/m-1", "/nowhere"):
        await page.go(operator.url + path)
        await page.wait("window.htmx && window.uPlot")

        assert await checked(page) == [], path
        assert await page.value("faults") == [], path
        assert await page.value("document.documentElement.scrollWidth") <= size[0], path
        assert await page.value(ORIGINS) == [operator.url], path
        assert await page.value("document.querySelectorAll('h1').length") == 1, path


async def test_the_keyboard_reaches_the_content_at_once(page: Page) -> None:
    """The first stop is a link over the navigation, to the content."""
    await page.press("Tab")
    first = await page.value("document.activeElement.className")
    await page.click(".skip")
    await page.wait("document.activeElement.id === 'main'")

    assert first == "skip"


async def test_numbers_are_renewed_while_the_page_is_open(vhost: str, page: Page) -> None:
    """A dead letter that comes now is shown without a reload, and the chart is drawn."""
    await page.wait(f"document.body.innerText.includes('1 in {LETTERS}')")
    await page.value("window.stayed = true")
    await handled(vhost, refuse, 2, mail("m-2"))
    await page.wait(f"document.body.innerText.includes('2 in {LETTERS}')")

    assert await page.value("window.stayed") is True
    assert await page.value("faults") == []
    assert await page.value("document.getElementById('stale').hidden") is True


async def test_the_last_day_is_drawn_at_once(page: Page) -> None:
    """The chart of a day needs no looks of before; a class can be chosen."""
    await page.value(
        "((e) => { e.value = 'day'; e.dispatchEvent(new Event('change')) })"
        "(document.getElementById('span'))"
    )
    await page.wait("document.querySelector('#chart canvas')")
    await page.wait("document.getElementById('chart').dataset.points === '24'")

    assert await page.value("faults") == []


async def test_a_table_fits_a_phone_or_shows_that_there_is_more(
    operator: Operator, page: Page
) -> None:
    """A queue's name is broken at its dots alone; a shade marks the side of what is not seen."""
    await page.resize(*PHONE)
    await page.go(operator.url)
    await page.wait("document.querySelector('th.dotted')")
    words = (
        "[...document.querySelectorAll('th.dotted')].map((e) => getComputedStyle(e).overflowWrap)"
    )
    shades = "getComputedStyle(document.querySelector('.scroll')).backgroundAttachment"

    assert set(await page.value(words)) == {"normal"}
    assert await page.value("document.querySelectorAll('th.dotted wbr').length") > 0
    assert await page.value(shades) == "local, local, scroll, scroll"


async def test_the_frame_of_a_preview_gets_the_variables_by_a_form(
    answers: Answers, operator: Operator, page: Page
) -> None:
    """Its document comes at once, by a form whose target it is."""
    answers.set(RenderContent, ContentRendered, html="<p>Ann</p>", mistake=None, busy=False)
    await page.go(f"{operator.url}/content/weekly?client=shop")
    await page.value("document.querySelector('[name=variables]').value = '{\"name\": \"Ann\"}'")
    await page.click("form[action$='#preview'] button")
    await page.wait("document.querySelector('form[data-now]')")

    async def framed() -> bool:
        asked = [each for each in answers.asked if isinstance(each, RenderContent)]
        return [each.variables.get("name") for each in asked].count("Ann") == len(("page", "frame"))

    await until(framed)
    assert await page.value("faults") == []


async def test_dropping_takes_a_second_step(operator: Operator, page: Page) -> None:
    """The button that deletes is not seen before its question; the keyboard is enough for it."""
    await page.go(f"{operator.url}{LETTERS_PATH}/m-1")
    seen = "document.querySelector('button.danger').checkVisibility()"
    before = await page.value(seen)
    await page.value("document.querySelector('.sure summary').focus()")
    await page.press(" ")
    await page.wait(seen)
    await page.click("button.danger")
    await page.wait("document.querySelector('.note')?.innerText === '1 dropped'")

    assert before is False
    assert await page.value("faults") == []
