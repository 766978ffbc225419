"""The page in a real browser."""

import asyncio
import base64
from collections.abc import AsyncIterator
from email.message import EmailMessage

import pytest

from ops.simulator.simulator import Simulator, SimulatorSettings
from tests.browser import CONTRAST, NEEDS_CHROMIUM, Page

pytestmark = NEEDS_CHROMIUM

DOT = base64.b64decode("R0lGODlhAQABAIAAAP8AAAAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==")
DESK, PHONE = (1200, 800), (390, 844)
LISTED = "document.querySelectorAll('#list li').length"
FOCUSED = "document.activeElement.closest('li')?.dataset.id"
PANEL = "document.querySelector('.panel:not([hidden])')"


@pytest.fixture
async def page(debugger: str) -> AsyncIterator[Page]:
    """Open a blank page of its own."""
    async with Page.opened(debugger) as opened:
        await opened.resize(*DESK)
        yield opened


def keep(simulator: Simulator, subject: str, *to: str, html: str | None = None) -> str:
    """Keep a mail; return its id."""
    mail = EmailMessage()
    mail["Subject"] = subject
    mail.set_content("Hello\n")
    if html is not None:
        mail.add_alternative(html, subtype="html")
    mail.add_attachment(b"<script>", "text", "html", filename="a.html")
    return simulator.mailbox.keep("a@x.example", to or ("b@x.example",), mail.as_bytes()).id


async def shown(page: Page, simulator: Simulator, mail_id: str = "") -> None:
    """Open the page, at a mail if one is named, and wait until it is there."""
    await page.go("about:blank")
    await page.go(f"{simulator.web_url}/#{mail_id}")
    await page.wait("document.querySelector('#live.on')")
    if mail_id:
        await page.wait(f"document.querySelector('#raw').href.includes('{mail_id}')")


async def test_all_mails(page: Page, simulator: Simulator) -> None:
    """All of 311 mails can be reached, and the focus goes to the first that was added."""
    ids = [keep(simulator, f"Mail {number}") for number in range(311)]
    await shown(page, simulator)
    await page.wait(f"{LISTED} === 200")
    await page.click("#older")
    await page.wait(f"{LISTED} === 311")

    await page.wait(f"{FOCUSED} === '{ids[110]}'")
    assert await page.value("document.querySelector('#older').hidden")
    assert "1 attached" in await page.value("document.querySelector('#list li').innerText")


async def test_search_and_clear(page: Page, simulator: Simulator) -> None:
    """A search finds subjects; Clear then names and deletes the found mails."""
    keep(simulator, "An invoice")
    other = keep(simulator, "A greeting")
    await shown(page, simulator)
    await page.click("#search")
    await page.write("INVOICE")
    await page.wait(f"{LISTED} === 1")
    await page.click("#clear")
    await page.wait(f"{LISTED} === 1 && document.querySelector('#search').value === ''")

    assert page.dialogs == ["Delete the 1 mail with “INVOICE”? All others stay."]
    assert [mail.id for mail in simulator.mailbox.find()] == [other]


async def test_nothing_found(page: Page, simulator: Simulator) -> None:
    """An empty result is shown right below the search."""
    keep(simulator, "Hello")
    await shown(page, simulator)
    await page.click("#search")
    await page.write("nothing such")
    await page.wait("!document.querySelector('#nothing').hidden")

    between = "document.querySelector('#nothing').getBoundingClientRect().top - "
    between += "document.querySelector('#search').getBoundingClientRect().bottom"
    assert await page.value(between) < 50


@pytest.mark.parametrize("size", [DESK, PHONE, (390, 500)])
@pytest.mark.parametrize(
    ("subject", "recipients"), [("W" * 900, 1), ("word " * 180, 1), ("Hello", 100)]
)
async def test_large_header(
    page: Page, simulator: Simulator, size: tuple[int, int], subject: str, recipients: int
) -> None:
    """The body is visible however long the subject and the recipients are."""
    to = [f"someone-{number}@a-rather-long-domain.example" for number in range(recipients)]
    mail_id = keep(simulator, subject, *to, html="<p>Hello</p>")
    await page.resize(*size)
    await shown(page, simulator, mail_id)
    await page.value("document.querySelector('#envelope button')?.click()")

    top, bottom = await page.value(
        f"(r => [r.top, r.bottom])({PANEL}.firstElementChild.getBoundingClientRect())"
    )
    assert bottom - top >= size[1] / 4
    assert 0 < top < bottom <= size[1]
    assert await page.value("document.documentElement.scrollWidth") <= size[0]


async def test_focus_stays(page: Page, simulator: Simulator) -> None:
    """An arriving mail does not move the focus; a deleted one moves it to its neighbour."""
    ids = [keep(simulator, f"Mail {number}") for number in range(3)]
    await shown(page, simulator)
    await page.wait(f"{LISTED} === 3")
    await page.value("document.querySelectorAll('#list button')[1].focus()")
    keep(simulator, "New")
    await page.wait(f"{LISTED} === 4")
    assert await page.value(FOCUSED) == ids[1]
    await page.press("ArrowDown")
    await page.wait(f"document.querySelector('#raw').href.includes('{ids[0]}')")
    assert await page.value(FOCUSED) == ids[0]

    await page.click("#delete")
    await page.wait(f"{LISTED} === 3")
    await page.wait(f"{FOCUSED} === '{ids[1]}'")
    assert simulator.mailbox.get(ids[0]) is None


async def test_focus_on_a_phone(page: Page, simulator: Simulator) -> None:
    """On a phone the focus moves into the mail and back to the list."""
    mail_id = keep(simulator, "Hello")
    await page.resize(*PHONE)
    await shown(page, simulator)
    await page.click("#list button")
    await page.wait("document.activeElement.id === 'subject'")
    await page.click("#back")
    await page.wait(f"{FOCUSED} === '{mail_id}'")


async def test_tabs(page: Page, simulator: Simulator) -> None:
    """Arrows, Home and End move through the visible tabs."""
    await shown(page, simulator, keep(simulator, "Hello"))
    await page.value("document.querySelector('[role=tab][aria-selected=true]').focus()")
    seen = []
    for key in ("ArrowRight", "End", "ArrowRight", "ArrowLeft", "Home"):
        await page.press(key)
        seen.append(await page.value("document.activeElement.id"))
        assert await page.value(f"{PANEL}.getAttribute('aria-labelledby')") == seen[-1]

    assert seen == ["tab-headers", "tab-source", "tab-text", "tab-source", "tab-text"]
    assert await page.value("document.querySelectorAll('[role=tab][tabindex=\"0\"]').length") == 1


async def test_server_away(page: Page) -> None:
    """Without a mailbox a click and Clear show an error, and a later click works again."""
    async with Simulator() as first:
        ids = [keep(first, f"Mail {number}") for number in range(2)]
        await shown(page, first)
        await page.wait(f"{LISTED} === 2")
        port = first.web_port
    alert = "document.querySelector('#alert:not([hidden])')?.textContent.includes('not answer')"
    for selector in ("#list button", "#clear"):
        await page.click("#dismiss")
        await page.wait("document.querySelector('#alert').hidden")
        await page.click(selector)
        await page.wait(alert)
    await page.wait("document.querySelector('#live-text').textContent === 'not connected'")

    async with Simulator(SimulatorSettings(web_port=port)) as second:
        ids = [keep(second, "Back again") for _ in range(3)]
        await page.wait(f"{LISTED} === 3 && document.querySelector('#alert').hidden")
        await page.click("#list button")
        await page.wait(f"document.querySelector('#raw').href.includes('{ids[-1]}')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE])
async def test_contrast(
    page: Page, simulator: Simulator, scheme: str, size: tuple[int, int]
) -> None:
    """All text has a contrast of 4.5 to 1 at least, empty, listed and read."""
    await page.resize(*size, scheme=scheme)
    await shown(page, simulator)
    await page.wait("!document.querySelector('#empty').hidden")
    found = [await page.value(CONTRAST)]
    ids = [keep(simulator, f"Mail {number}", *"abcdefg") for number in range(3)]
    await shown(page, simulator)
    await page.wait(f"{LISTED} === 3")
    found.append(await page.value(CONTRAST))
    await shown(page, simulator, ids[0])
    found.append(await page.value(CONTRAST))

    assert min(contrast for contrast, _ in found) >= 4.5, found


async def test_frame(page: Page, simulator: Simulator) -> None:
    """A mail's HTML runs no script, is not navigated, and sends no request."""
    asked: list[object] = []
    async with await asyncio.start_server(lambda *_: asked.append(1), "127.0.0.1", 0) as stranger:
        url = f"http://127.0.0.1:{stranger.sockets[0].getsockname()[1]}"
        evil = f"<script>top.location = '{url}'</script><img src={url}/i.png onerror='fetch(1)'>"
        evil += f"<meta http-equiv=refresh content='0;url={url}'><link rel=stylesheet href={url}>"
        mail_id = keep(simulator, "Hello", html=f"{evil}<p style='background:url({url})'>Hello</p>")
        await shown(page, simulator, mail_id)
        await page.value(
            "new Promise((done) => { const frame = document.querySelector('#frame');"
            " frame.onload = () => done(true); document.querySelector('#tab-html').click() })"
        )
        targets = (await page.call("Target.getTargets"))["targetInfos"]

    # Chromium keeps a sandboxed frame in a process of its own, a target like a page.
    assert f"{simulator.web_url}/api/messages/{mail_id}/html" in [each["url"] for each in targets]
    assert await page.value("document.querySelector('#frame').contentDocument") is None
    assert await page.value("location.href") == f"{simulator.web_url}/#{mail_id}"
    assert asked == []


async def test_inline_image(page: Page, simulator: Simulator) -> None:
    """An image that the HTML names by its Content-ID is visible."""
    mail = EmailMessage()
    mail.set_content("<img src=cid:dot@x>", subtype="html")
    mail.add_related(DOT, "image", "gif", cid="<dot@x>")
    mail_id = simulator.mailbox.keep("a@x.example", ["b@x.example"], mail.as_bytes()).id
    await page.go(f"{simulator.web_url}/api/messages/{mail_id}/html")

    assert await page.value("document.images[0].naturalWidth") == 1


async def test_published_port(page: Page) -> None:
    """The empty page shows where SMTP is published."""
    async with Simulator(SimulatorSettings(published="mail.example:2599")) as opened:
        await shown(page, opened)
        await page.wait("!document.querySelector('#empty').hidden")
        told = await page.value("document.querySelector('#empty').innerText")

    assert "mail.example:2599" in told
    assert 'smtplib.SMTP("mail.example", 2599)' in told
