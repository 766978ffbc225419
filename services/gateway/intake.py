"""Taking requests in: their bodies within limits, and for each an id, the same when it repeats."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from aiohttp import HttpVersion11, StreamReader, web

from services.gateway.api import body
from services.gateway.api.body import SMALL, B, RequestStamp
from services.gateway.api.problem import (
    KEY_REUSED,
    MALFORMED,
    TIMEOUT,
    UNSUPPORTED_MEDIA_TYPE,
    Problem,
)
from services.gateway.body_budget import BodyBudget
from services.gateway.clients import idempotency
from services.gateway.clients.idempotency import IdempotencyKey
from services.gateway.request import CLIENT, RELEASE, REPLAYED, SUBJECT

JSON = "application/json"

T = TypeVar("T")


class Uses(Protocol):
    """Where the keys of requests are kept."""

    async def first(
        self, use: IdempotencyKey, fingerprint: bytes, stamp: RequestStamp
    ) -> tuple[bytes, RequestStamp]:
        """Keep a use of a key, or give the fingerprint and stamp of the one that is kept."""

    async def forget(self, use: IdempotencyKey) -> None:
        """Let the key stand for nothing."""


@dataclass(frozen=True, slots=True)
class RequestReader:
    """Reads requests; `seconds` are for a body to come in. Methods raise Problem or StoreAway."""

    seconds: float
    uses: Uses
    secret: bytes = field(repr=False)
    now: Callable[[], RequestStamp]
    budget: BodyBudget
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self, request: web.Request, model: type[B]) -> tuple[B, bytes]:
        """Return the checked request, and its body."""
        content = await self.content(request, model.most)
        return await self.checked(content, lambda: body.read(model, content)), content

    async def checked(self, content: bytes, check: Callable[[], T]) -> T:
        """Return the result of `check`: for a large body in a thread, one after another.

        A mail of 12 MiB takes some 100 ms to check, which all other requests would wait for.
        """
        if len(content) <= SMALL:
            return check()
        async with self.turn:
            return await asyncio.to_thread(check)

    async def content(
        self, request: web.Request, most: int | None = None, types: Collection[str] = (JSON,)
    ) -> bytes:
        """Give the body, `most` bytes at most, by default as many as the settings say.

        The limit holds for what is read, also of a body without a length and of a compressed one;
        a length that is announced is believed, so that nothing is read in vain. A large body counts
        in the budget until the request is answered.
        """
        if request.content_type not in types:
            raise Problem(UNSUPPORTED_MEDIA_TYPE, f"The Content-Type must be {' or '.join(types)}.")
        limit = most or request.client_max_size
        if (request.content_length or 0) > limit:
            raise body.too_large(limit)
        self._hold(request, limit)
        await _ask_for_body(request)
        try:
            content = await self._arrived(request.content, limit)
        except TimeoutError:
            raise Problem(TIMEOUT, headers={"Connection": "close"}) from None
        except web.RequestPayloadError:
            raise Problem(
                MALFORMED, "The body cannot be read to its end.", headers={"Connection": "close"}
            ) from None
        if len(content) > limit:
            raise body.too_large(limit)
        return await self._unpacked(content, request.headers.get("Content-Encoding", ""), limit)

    async def _unpacked(self, content: bytes, coding: str, limit: int) -> bytes:
        """Return the content of a compressed body, unpacked in a thread, one after another."""
        if not coding or coding.lower() == "identity":
            return content
        async with self.turn:
            return await asyncio.to_thread(body.unpack, content, coding.lower(), limit)

    def _hold(self, request: web.Request, limit: int) -> None:
        exact = request.content_length is not None and "Content-Encoding" not in request.headers
        size = request.content_length if exact else limit
        if size and size > SMALL:
            request[RELEASE] = self.budget.hold(request[CLIENT].id, size)

    async def _arrived(self, stream: StreamReader, limit: int) -> bytes:
        """Give a body, or a little more than `limit` of it.

        Raises TimeoutError, or RequestPayloadError when it is not in the form it is said to be.
        """
        if stream.is_eof():  # all is there, as it nearly always is
            return stream.read_nowait()
        content = bytearray()
        async with asyncio.timeout(self.seconds):
            while len(content) <= limit and (part := await stream.readany()):
                content += part
        return bytes(content)

    async def stamped(self, request: web.Request, content: bytes) -> RequestStamp:
        """Give the request's stamp: that of the first with the same key and body, if it has one.

        A repeat is then done again under the same id, which is harmless wherever it arrives, and
        makes up for a first time that was cut off: so nothing has to be locked.
        """
        use, stamp = _use(request), self.now()
        if use is not None:
            fresh, ours = stamp.id, idempotency.fingerprint(self.secret, content)
            theirs, stamp = await self.uses.first(use, ours, stamp)
            if theirs != ours:
                raise Problem(KEY_REUSED)
            request[REPLAYED] = stamp.id != fresh
        request[SUBJECT] = stamp.id
        return stamp

    async def forget(self, request: web.Request) -> None:
        """Let the request's key be new again: it was refused, and may be done another time."""
        if use := _use(request):
            await self.uses.forget(use)


async def expect(request: web.Request) -> None:
    """Refuse unknown expectations; "100 Continue" is sent when the body is wanted, not before.

    The library's own function would ask for bodies that are then refused (RFC 9110 10.1.1).
    """
    if request.headers["Expect"].lower() != "100-continue" and request.version >= HttpVersion11:
        raise web.HTTPExpectationFailed


async def _ask_for_body(request: web.Request) -> None:
    """Send "100 Continue" to a client that waits for it."""
    waits = "Expect" in request.headers and request.version >= HttpVersion11
    if waits and not request.content.is_eof():
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


def _use(request: web.Request) -> IdempotencyKey | None:
    key = idempotency.read(request.headers.getall(idempotency.HEADER, ()))
    return IdempotencyKey(request[CLIENT].id, request.path, key) if key else None
