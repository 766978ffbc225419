"""The gateway's door, for one of those who come at the same time."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from yarl import URL

from ops.load import caller
from ops.load.caller import Answer, Caller
from ops.load.errors import LoadError
from shared.errors import Unavailable

ANSWER_SECONDS = 60.0  # more than a gateway takes to say that it cannot
_RETRY_AFTER = re.compile(rb"^retry-after: *(\d+)", re.IGNORECASE | re.MULTILINE)
_SHOWN = 300  # characters of an answer that was not expected


class Busy(Unavailable):
    """It may be so later; `after` are the seconds that were asked for."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to ask; with `key`, asked again it is still the same thing."""

    method: str
    path: str
    body: bytes = b""
    key: str | None = None


class Door:
    """Asks the gateway over one connection, which is made anew when it is lost."""

    def __init__(self, url: URL, client_key: str) -> None:
        self._url = url
        self._headers: Mapping[str, str] = (
            {"Authorization": f"Bearer {client_key}"} if client_key else {}
        )
        self._caller: Caller | None = None

    async def open(self) -> None:
        """Connect. Raises LoadError when nobody is there."""
        try:
            self._caller = await Caller.connect(self._url)
        except OSError as error:
            raise LoadError(f"{self._url.origin()} does not answer: {error}") from error

    def close(self) -> None:
        """Disconnect."""
        if self._caller is not None:
            self._caller.close()

    async def ask(self, wanted: Request) -> Answer:
        """Ask, and give an answer of 2xx.

        Raises Busy when it may be so later; then it may have been done, too. Raises LoadError when
        it never will be.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._asked(self._octets(wanted))
        except (TimeoutError, OSError) as error:
            self.close()
            self._caller = None
            raise Busy(str(error) or "no answer") from error
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return answer
        raise _refusal(answer)

    async def read(self, path: str) -> Any:  # noqa: ANN401 -- JSON
        """Read a resource. Raises what `ask` does."""
        return orjson.loads((await self.ask(Request("GET", path))).body)

    async def _asked(self, octets: bytes) -> Answer:
        if self._caller is None:
            self._caller = await Caller.connect(self._url)
        return await self._caller.ask(octets)

    def _octets(self, wanted: Request) -> bytes:
        headers = dict(self._headers)
        if wanted.body:
            headers["Content-Type"] = "application/json"
        if wanted.key:
            headers["Idempotency-Key"] = wanted.key
        url = self._url.join(URL(wanted.path, encoded=True))
        return caller.request(wanted.method, url, headers, wanted.body)


def _refusal(answer: Answer) -> Exception:
    told = f"{answer.status} {answer.body[:_SHOWN].decode(errors='replace')}"
    later = answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    if not later and answer.status != HTTPStatus.TOO_MANY_REQUESTS:
        return LoadError(f"the gateway answers {told}")
    after = _RETRY_AFTER.search(answer.head)
    return Busy(told, float(after[1]) if after else None)
