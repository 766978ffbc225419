"""The pages behind links in a real browser: light and dark, on a phone, by keyboard."""

from collections.abc import AsyncIterator

import pytest

from services.gateway.api.link_texts import TEXTS
from tests.browser import CONTRAST, NEEDS_CHROMIUM, Page
from tests.gateway.api_client import ApiClient

pytestmark = NEEDS_CHROMIUM
PHONE, DESK = (390, 844), (1200, 800)
PATH = "/unsubscribe/unknown"  # the same page as of a link, with "this list" for its name
MIN_CONTRAST = 4.5  # WCAG 2.2, 1.4.3
FOCUSED = "document.activeElement.value"
OUTLINE = "parseFloat(getComputedStyle(document.activeElement).outlineWidth)"


@pytest.fixture
async def page(debugger: str) -> AsyncIterator[Page]:
    """Open a blank page of its own."""
    async with Page.opened(debugger) as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK])
async def test_all_can_be_read(
    api: ApiClient, page: Page, size: tuple[int, int], scheme: str
) -> None:
    """Every text has enough contrast, and nothing is wider than the window."""
    await page.resize(*size, scheme)
    for language in TEXTS:
        await page.call("Emulation.setUserAgentOverride", userAgent="x", acceptLanguage=language)
        await page.go(f"{api.url}{PATH}")
        contrast, where = await page.value(CONTRAST)

        assert await page.value("document.documentElement.lang") == language
        assert contrast >= MIN_CONTRAST, where
        assert await page.value("document.documentElement.scrollWidth") <= size[0]


async def test_the_buttons_are_reached_by_keyboard(api: ApiClient, page: Page) -> None:
    """The focus goes from button to button and is seen; Enter sends the form."""
    await page.resize(*DESK)
    await page.go(f"{api.url}{PATH}")
    for value in ("one", "all"):
        await page.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", text="\t")
        await page.call("Input.dispatchKeyEvent", type="keyUp", key="Tab", code="Tab")

        assert await page.value(FOCUSED) == value
        assert await page.value(OUTLINE) >= 2

    await page.value("document.activeElement.click()")
    await page.wait("document.querySelector('h1')?.textContent === 'You are unsubscribed'")
    assert await page.value("document.querySelector('form')") is None
