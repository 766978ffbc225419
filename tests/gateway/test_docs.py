"""The page `/docs`: its files, its headers, and what a browser shows."""

import asyncio
import hashlib
import re
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import aiohttp
import pytest

from services.gateway import service
from services.gateway.api import openapi
from services.gateway.app import OPERATIONS, docs_routes
from tests.browser import NEEDS_CHROMIUM, Page, chromium
from tests.gateway.api_client import ApiClient, declare, settings
from tests.modules import ROOT

FOLDER = ROOT / "services/gateway/page"
LIBRARY = FOLDER / "swagger-ui"
PATHS = [route.path for route in docs_routes()]
DESK, PHONE = (1200, 900), (390, 844)
COUNT_REFUSALS = """
window.refusals = [];
document.addEventListener("securitypolicyviolation", (e) => refusals.push(e.effectiveDirective));
"""


class References(HTMLParser):
    """Collects the URLs of a page, and all that a strict Content-Security-Policy refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.inline: list[str] = []
        self._bare_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Read the attributes of a tag."""
        named = dict(attrs)
        self.urls += [str(named[name]) for name in ("src", "href") if name in named]
        self.inline += [name for name in named if name == "style" or name.startswith("on")]
        self._bare_script = tag == "script" and "src" not in named
        if tag == "style" or self._bare_script:
            self.inline.append(tag)


async def test_the_page_needs_no_key_and_allows_nothing_from_elsewhere(api: ApiClient) -> None:
    """Each file of the page is public, and its policy allows this origin alone."""
    for path in PATHS:
        answer = await api.with_key("").call("GET", path)

        assert answer.status == 200, path
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert not re.search("unsafe|http:|https:|[*]", policy)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Server"] == "postrider"


async def test_a_file_that_is_unchanged_is_not_sent_again(api: ApiClient) -> None:
    """A browser asks again with the ETag, and gets a 304 without a body."""
    for path in PATHS:
        first = await api.call("GET", path)
        again = await api.call("GET", path, headers={"If-None-Match": first.headers["ETag"]})

        assert first.headers["Cache-Control"] == "no-cache"
        assert (again.status, again.content) == (304, b"")


async def test_the_page_can_be_left_out(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """Without GATEWAY_DOCS the page and its files are not there; the document is."""
    await declare(vhost)
    given = settings(vhost, tmp_path, gateway_docs=False)
    async with service.serving(given, asyncio.Event()) as port:
        api = ApiClient(http, f"http://127.0.0.1:{port}")
        statuses = {(await api.call("GET", path)).status for path in PATHS}
        document = await api.call("GET", "/v1/openapi.json")

    assert statuses == {404}
    assert document.status == 200


def test_every_url_of_the_page_is_relative() -> None:
    """The page asks no other host, works behind a prefix, and has nothing inline."""
    found = References()
    found.feed((FOLDER / "page.html").read_text())

    assert not found.inline
    assert not [url for url in found.urls if re.match("(?!data:)[a-z]+:|/", url)]
    own = "".join((FOLDER / name).read_text() for name in ("page.js", "page.css"))
    assert "://" not in own


def test_the_library_is_the_one_that_is_named() -> None:
    """The files of the library are those of its version, with licence and notice beside them."""
    described = (LIBRARY / "README.md").read_text()
    sums = dict(re.findall(r"\| `(\S+)` \| `(\w{64})` \|", described))

    assert len(sums) == 2
    for name, expected in sums.items():
        assert hashlib.sha256((LIBRARY / name).read_bytes()).hexdigest() == expected
    [version] = re.findall(r"^# Swagger UI (\S+)$", described, re.MULTILINE)
    assert f'"{version}"' in (LIBRARY / "swagger-ui-bundle.js").read_text()
    assert "Apache License" in (LIBRARY / "LICENSE").read_text()
    assert "SmartBear" in (LIBRARY / "NOTICE").read_text()


def test_an_installed_distribution_has_the_page(tmp_path: Path) -> None:
    """The wheel, from which the container image is made, has all files and licences."""
    subprocess.run(  # noqa: S603 -- our own interpreter
        (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path),
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    files = [path.relative_to(ROOT) for path in FOLDER.rglob("*") if path.is_file()]
    assert {str(path) for path in files} <= set(names)
    assert any(name.endswith("licenses/services/gateway/page/swagger-ui/LICENSE") for name in names)


@NEEDS_CHROMIUM
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
async def test_a_browser_shows_every_operation(
    api: ApiClient, tmp_path: Path, size: tuple[int, int]
) -> None:
    """All operations are shown, light and dark, and the policy refuses nothing of the page."""
    operations = sum(map(len, openapi.document(OPERATIONS)["paths"].values()))
    with chromium(tmp_path) as debugger:
        async with Page.opened(debugger) as page:
            await page.call("Page.addScriptToEvaluateOnNewDocument", source=COUNT_REFUSALS)
            await page.resize(*size)
            await page.go(f"{api.url}/docs")
            await page.wait(f"document.querySelectorAll('.opblock').length === {operations}")
            light = await page.value("getComputedStyle(document.body.parentElement).colorScheme")
            await page.resize(*size, scheme="dark")
            await page.wait("document.documentElement.classList.contains('dark-mode')")

            await try_ping(page)
            width = await page.value("document.documentElement.scrollWidth")
            hosts = await page.value(
                "[...new Set(performance.getEntriesByType('resource').map(e => e.name)"
                ".filter(name => !name.startsWith('data:')).map(name => new URL(name).origin))]"
            )
            refusals = await page.value("refusals")

    assert "dark" not in light.split()[:1]
    assert width <= size[0]
    assert hosts == [api.url]
    assert refusals == []


async def try_ping(page: Page) -> None:
    """Send a request from the page, and wait for its answer."""
    block = "#operations-service-ping"
    await page.value(f"document.querySelector('{block}').scrollIntoView()")
    await page.click(f"{block} .opblock-summary-control")
    await page.wait(f"document.querySelector('{block} .try-out__btn')")
    await page.click(f"{block} .try-out__btn")
    await page.wait(f"document.querySelector('{block} .execute')")
    await page.click(f"{block} .execute")
    answer = f"document.querySelector('{block} .live-responses-table .response')?.innerText"
    await page.wait(f"{answer}?.includes('pong')")
