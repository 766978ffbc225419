"""Reading requests: their bodies within limits, and the id and time that each of them gets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from aiohttp import HttpVersion11, StreamReader, web

from services.gateway.api import body
from services.gateway.api.body import MAX_SMALL_BODY_BYTES, B, BodyBudget
from services.gateway.api.problem import (
    CHALLENGE,
    IN_PROGRESS,
    INSUFFICIENT_SCOPE,
    KEY_REUSED,
    MALFORMED,
    RETRY_SECONDS,
    TIMEOUT,
    UNSUPPORTED_MEDIA_TYPE,
    Problem,
    retry_after,
)
from services.gateway.clients import idempotency
from services.gateway.clients.clients import AllowedSenders, Client
from services.gateway.clients.idempotency import IdempotencyKey, RequestStamp
from services.gateway.clients.idempotency_store import IdempotencyKeyStore
from services.gateway.clients.tables import StoreUnavailable
from shared.contracts.clients import Scope

JSON = "application/json"
CLIENT_ADDRESS = web.RequestKey("client_address", str)
CLIENT = web.RequestKey("client", Client)  # set before the view is called
SUBJECT = web.RequestKey("subject", str)  # for the log: the id of the thing in question
REPLAYED = web.RequestKey("replayed", bool)  # whether the Idempotency-Key was seen before
REASON = web.RequestKey("reason", str)  # for the log alone
RATE_LIMIT = web.RequestKey[Mapping[str, str]]("rate_limit", dict)  # fields of the answer
REPEATABLE = web.RequestKey("repeatable", bool)  # whether it is the same twice, without a key
# Frees the budget of the request's body; called when the request is answered.
RELEASE = web.RequestKey[Callable[[], None]]("release", Callable)  # type: ignore[arg-type]

HOLD_MARGIN_SECONDS = 10.0  # for the publish before a wait, and the database after it
# The administrator in the log; no client can have this id.
ADMIN = Client("(admin)", AllowedSenders([]), frozenset())

_CLOSE = {"Connection": "close"}

View = Callable[[web.Request], Awaitable[web.Response]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RequestReader:
    """Reads bodies and Idempotency-Keys. Methods raise Problem or StoreUnavailable."""

    body_seconds: float  # for a body to arrive
    keys: IdempotencyKeyStore
    fingerprint_secret: bytes = field(repr=False)
    new_stamp: Callable[[], RequestStamp]
    budget: BodyBudget
    large_bodies: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self, request: web.Request, model: type[B]) -> tuple[B, bytes]:
        """Return the checked body, and its bytes."""
        content = await self.read_bytes(request, model.max_bytes)
        return await self.check(content, lambda: body.read(model, content)), content

    async def check(self, content: bytes, check: Callable[[], T]) -> T:
        """Return the result of `check`, for large bodies in a thread and one after the other.

        The check of a mail of 12 MiB lasts some 100 ms, in which no other request would go on.
        """
        if len(content) <= MAX_SMALL_BODY_BYTES:
            return check()
        async with self.large_bodies:
            return await asyncio.to_thread(check)

    async def read_bytes(
        self,
        request: web.Request,
        max_bytes: int | None = None,
        media_types: Collection[str] = (JSON,),
    ) -> bytes:
        """Return the unpacked body, by default of as many bytes as the settings allow.

        The limit holds for the bytes that arrive, and for those that a compressed body holds. A
        Content-Length over the limit is refused unread. A large body counts in the budget until the
        request is answered.
        """
        if request.content_type not in media_types:
            raise Problem(
                UNSUPPORTED_MEDIA_TYPE, f"The Content-Type must be {' or '.join(media_types)}."
            )
        limit = max_bytes or request.client_max_size
        if (request.content_length or 0) > limit:
            raise body.too_large(limit)
        self._hold(request, limit)
        await _send_continue(request)
        content = await self._receive(request.content, limit)
        if len(content) > limit:
            raise body.too_large(limit)
        return await self._unpack(content, request.headers.get("Content-Encoding", ""), limit)

    async def _unpack(self, content: bytes, coding: str, limit: int) -> bytes:
        if not coding or coding.lower() == "identity":
            return content
        async with self.large_bodies:
            return await asyncio.to_thread(body.unpack, content, coding.lower(), limit)

    def _hold(self, request: web.Request, limit: int) -> None:
        exact = request.content_length is not None and "Content-Encoding" not in request.headers
        size = request.content_length if exact else limit
        if size and size > MAX_SMALL_BODY_BYTES:
            self.hold(request, size)

    def hold(self, request: web.Request, size: int) -> None:
        """Count `size` bytes more in the budget until the request is answered. Raises Problem."""
        release = self.budget.hold(request[CLIENT].id, size)
        before = request.get(RELEASE)

        def release_all() -> None:
            release()
            if before is not None:
                before()

        request[RELEASE] = release_all

    async def _receive(self, stream: StreamReader, limit: int) -> bytes:
        """Return a body, or a little more than `limit` bytes of it. Raises Problem."""
        content = bytearray()
        try:
            if stream.is_eof():  # the whole body is there, as it nearly always is
                return stream.read_nowait()
            async with asyncio.timeout(self.body_seconds):
                while len(content) <= limit and (part := await stream.readany()):
                    content += part
        except TimeoutError:
            raise Problem(TIMEOUT, headers=_CLOSE) from None
        except web.RequestPayloadError:
            problem = Problem(MALFORMED, "The body cannot be read to its end.", headers=_CLOSE)
            raise problem from None
        return bytes(content)

    async def stamp(self, request: web.Request, content: bytes) -> RequestStamp:
        """Return the stamp of the first request with the same key and body; else a new one.

        A repeat is done again under the first one's id, which has no effect in the services that
        know the id, and completes a first request that was cut off. So there is no lock, but see
        `alone`.
        """
        key, stamp = _idempotency_key(request), self.new_stamp()
        if key is not None:
            new_id = stamp.id
            fingerprint = idempotency.fingerprint(self.fingerprint_secret, content)
            first_fingerprint, stamp = await self.keys.first(key, fingerprint, stamp)
            if first_fingerprint != fingerprint:
                raise Problem(KEY_REUSED)
            request[REPLAYED] = stamp.id != new_id
        request[SUBJECT] = stamp.id
        return stamp

    async def forget_key(self, request: web.Request, stamp: RequestStamp) -> None:
        """Forget the key of a request that was refused, so that a repeat is a new request."""
        if key := _idempotency_key(request):
            await self.keys.forget(key, stamp.id)

    @asynccontextmanager
    async def alone(self, request: web.Request, seconds: float) -> AsyncIterator[None]:
        """Hold the key of a request that lasts `seconds` at most; a repeat meanwhile is a 409.

        For a request whose repeat could be answered otherwise while it is under way. It follows
        `stamp`. A request without a key is no repeat of another.
        """
        key = _idempotency_key(request)
        if key is None:
            yield
            return
        hold = await self.keys.hold(key, seconds + HOLD_MARGIN_SECONDS)
        if hold.wait_seconds:
            wait = retry_after(min(hold.wait_seconds, RETRY_SECONDS))
            raise Problem(IN_PROGRESS, headers=wait)
        try:
            yield
        finally:
            # Without the database it ends by itself; the request has had its effect.
            with suppress(StoreUnavailable):
                await self.keys.release(key, hold)


def client_of(request: web.Request) -> str | None:
    """Return the client that a request is of; None for the administrator, who acts for all."""
    client = request[CLIENT]
    return None if client is ADMIN else client.id


def check_scope(client: Client, scope: Scope | None) -> None:
    """Check that a client has the scope of an operation. Raises Problem."""
    if scope is not None and scope not in client.scopes:
        raise Problem(
            INSUFFICIENT_SCOPE,
            f"This needs the scope {scope}.",
            # RFC 6750 3.1
            headers={
                "WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope", scope="{scope}"'
            },
            reason=f"without the scope {scope}",
        )


async def expect(request: web.Request) -> None:
    """Refuse unknown expectations; "100 Continue" is sent by `RequestReader.read_bytes`.

    The library's own handler would ask for bodies that are then refused (RFC 9110 10.1.1).
    """
    if request.headers["Expect"].lower() != "100-continue" and request.version >= HttpVersion11:
        raise web.HTTPExpectationFailed


async def _send_continue(request: web.Request) -> None:
    waits = "Expect" in request.headers and request.version >= HttpVersion11
    if waits and not request.content.is_eof():
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


def _idempotency_key(request: web.Request) -> IdempotencyKey | None:
    key = idempotency.read_key(request.headers.getall(idempotency.HEADER, ()))
    return IdempotencyKey(request[CLIENT].id, request.path, key) if key else None
