"""A headless Chromium, driven by the DevTools protocol."""

import itertools
import re
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

from tests.waiting import until

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
NEEDS_CHROMIUM = pytest.mark.skipif(
    PROGRAM is None, reason="there is no chromium (apt install chromium)"
)
START_LINES = 200  # of its log, until it says where it listens
# The lowest contrast (WCAG 2.2, 1.4.3) of the texts that are seen, and of what.
CONTRAST = """
(() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => numbers(color).slice(0, 3)
    .map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = (e) => {
    const color = getComputedStyle(e).backgroundColor;
    return numbers(color)[3] === 0 && e.parentElement ? paper(e.parentElement) : color;
  };
  const seen = [...document.querySelectorAll("body *")].filter((e) => e.checkVisibility()
    && (e.placeholder || [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())));
  return seen.map((e) => {
    const style = getComputedStyle(e, e.placeholder ? "::placeholder" : null);
    const [a, b] = [light(style.color), light(paper(e))].sort((x, y) => y - x);
    return [style.opacity * (a + 0.05) / (b + 0.05), e.outerHTML.slice(0, 80)];
  }).sort((x, y) => x[0] - y[0])[0];
})()
"""


@pytest.fixture(scope="module")
def debugger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a browser for all tests of a file."""
    with chromium(tmp_path_factory.mktemp("browser")) as address:
        yield address


@contextmanager
def chromium(profile: Path) -> Iterator[str]:
    """Start a browser and yield the address of its debugger; end it at last."""
    command = [PROGRAM or "", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-dev-shm-usage", "--remote-debugging-port=0"]
    command += [f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603  # found by `shutil.which`
        assert process.stderr is not None
        try:
            said = "".join(itertools.islice(_lines_until_ready(process.stderr), START_LINES))
            found = re.search(r"DevTools listening on (ws://\S+)", said)
            assert found, said
            # A pipe without a reader would stop the browser.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield found[1]
        finally:
            process.terminate()


def _lines_until_ready(log: Iterator[str]) -> Iterator[str]:
    for line in log:
        yield line
        if "DevTools listening" in line:
            return


class Page:
    """One page of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._session: str | None = None
        self._numbers = itertools.count(1)
        self.accepts = True  # what a dialog is answered
        self.dialogs: list[str] = []

    @classmethod
    @asynccontextmanager
    async def opened(cls, debugger: str) -> AsyncIterator[Self]:
        """Open a blank page with cookies and storage of its own."""
        async with aiohttp.ClientSession() as http, http.ws_connect(debugger, max_msg_size=0) as ws:
            page = cls(ws)
            context = await page.call("Target.createBrowserContext")
            made = await page.call("Target.createTarget", url="about:blank", **context)
            attached = await page.call("Target.attachToTarget", flatten=True, **made)
            page._session = attached["sessionId"]
            await page.call("Page.enable")
            try:
                yield page
            finally:
                page._session = None
                await page.call("Target.disposeBrowserContext", **context)

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        """Call a method of the protocol and return its result; dialogs are answered meanwhile."""
        number = await self._send(method, params)
        async for message in self._socket:
            heard = message.json()
            if heard.get("method") == "Page.javascriptDialogOpening":
                self.dialogs.append(heard["params"]["message"])
                await self._send("Page.handleJavaScriptDialog", {"accept": self.accepts})
            if heard.get("id") == number:
                assert "error" not in heard, heard
                result: dict[str, Any] = heard["result"]
                return result
        raise ConnectionError("the browser is gone")

    async def _send(self, method: str, params: object) -> int:
        number = next(self._numbers)
        session = {"sessionId": self._session} if self._session else {}
        await self._socket.send_json({"id": number, "method": method, "params": params, **session})
        return number

    async def go(self, url: str) -> None:
        """Load a page."""
        await self.call("Page.navigate", url=url)
        await self.wait("document.readyState === 'complete'")

    async def resize(self, width: int, height: int, scheme: str = "light") -> None:
        """Set the size of the window and whether people want it light or dark."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def value(self, expression: str) -> Any:  # noqa: ANN401  # whatever JSON it is
        """Evaluate JavaScript."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def wait(self, expression: str) -> None:
        """Return once the expression is true. Raises TimeoutError."""

        async def holds() -> bool:
            return bool(await self.value(f"Boolean({expression})"))

        await until(holds)

    async def click(self, selector: str) -> None:
        """Focus and click an element, as a person does."""
        await self.value(f"(e => {{ e.focus(); e.click() }})(document.querySelector({selector!r}))")

    async def press(self, key: str) -> None:
        """Press a key where the focus is."""
        for kind in ("rawKeyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    async def write(self, text: str) -> None:
        """Insert text where the focus is."""
        await self.call("Input.insertText", text=text)
