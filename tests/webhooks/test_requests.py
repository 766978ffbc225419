"""Requests to real receivers over https, as Standard Webhooks asks, and what they survive."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from standardwebhooks import WebhookVerificationError

from services.webhooks.requests import MAX_ANSWER_BYTES, WebhookRequester
from services.webhooks.signing import secret_text
from tests.webhooks.conftest import ALLOWED, TRY_SECONDS
from tests.webhooks.receivers import HOST, LOOPBACK, Names, Receiver, Talk, receiving, talking

SECRET, OLD, OTHER = (letter * 32 for letter in (b"a", b"b", b"c"))
BODY = '{"type":"email.delivered","data":{"recipient":"Änne@example.org"}}'.encode()
SHORT_SECONDS = 0.2


async def read_request(reader: asyncio.StreamReader) -> None:
    """Read a request to its end."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-len"))
    await reader.readexactly(int(length.partition(b":")[2]))


async def test_the_reference_library_verifies_a_request(
    requester: WebhookRequester, receiver: Receiver
) -> None:
    """With either of two secrets, and with no other one; the time is now."""
    answer = await requester.send(receiver.url(), "msg_1", BODY, [SECRET, OLD])
    [got] = receiver.got

    assert answer.status == 200
    assert got.verified(secret_text(SECRET)) == got.verified(secret_text(OLD))
    with pytest.raises(WebhookVerificationError):
        got.verified(secret_text(OTHER))
    assert got.message_id == "msg_1"


async def test_an_answer_says_exactly_what_was_sent(
    requester: WebhookRequester, receiver: Receiver
) -> None:
    """The headers are those that the receiver got, all of them, and the body byte for byte."""
    answer = await requester.send(receiver.url(), "msg_1", BODY, [SECRET])
    [got] = receiver.got

    assert answer.headers == got.headers
    assert got.body == BODY
    assert (answer.body, answer.error) == (b"thanks", None)
    assert (answer.answer_headers or {})["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    requester: WebhookRequester, receiver: Receiver, status: int
) -> None:
    """It may lead anywhere; the status is an answer like any other."""

    async def redirect(request: web.Request) -> web.Response:
        del request
        return web.Response(status=status, headers={"Location": receiver.url("/other")})

    receiver.answers["/hooks"] = redirect
    answer = await requester.send(receiver.url(), "msg_1", BODY, [SECRET])

    assert answer.status == status
    assert [each.path for each in receiver.got] == ["/hooks"]


async def test_a_name_that_leads_elsewhere_at_the_second_look_up(
    ca_file: Path, receiver: Receiver
) -> None:
    """It is looked up for each attempt, also with an open connection, and refused."""
    names = Names("127.0.0.1", "127.0.0.1", "127.0.0.2")
    async with WebhookRequester.opened(TRY_SECONDS, ALLOWED, ca_file, names) as requester:
        first = await requester.send(receiver.url(), "msg_1", BODY, [SECRET])
        second = await requester.send(receiver.url(), "msg_2", BODY, [SECRET])

    assert (first.status, second.status, second.forbidden) == (200, None, True)
    assert second.error == f"{HOST} leads to an address that is not public"
    assert len(receiver.got) == 1


async def test_a_name_that_changes_between_check_and_connection(
    ca_file: Path, receiver: Receiver
) -> None:
    """The connection is made to an address that was checked itself."""
    names = Names("127.0.0.1", "127.0.0.2")
    async with WebhookRequester.opened(TRY_SECONDS, ALLOWED, ca_file, names) as requester:
        answer = await requester.send(receiver.url(), "msg_1", BODY, [SECRET])

    assert (answer.status, answer.forbidden) == (None, True)
    assert receiver.got == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "127.1", "localhost"]
)
async def test_no_spelling_of_this_host_is_called(
    ca_file: Path, receiver: Receiver, host: str
) -> None:
    """Neither as an address nor by a name; the system's own resolver is asked."""
    async with WebhookRequester.opened(TRY_SECONDS, (), ca_file) as requester:
        answer = await requester.send(receiver.url(host=host), "msg_1", BODY, [SECRET])

    assert answer.status is None
    assert answer.error is not None
    assert receiver.got == []


async def test_a_certificate_is_checked(
    requester: WebhookRequester, authority: trustme.CA, receiver: Receiver
) -> None:
    """One of another name, or of an authority that is not known, ends the request."""
    async with (
        receiving(authority, "other.example") as misnamed,
        receiving(trustme.CA()) as unknown,
    ):
        answers = [
            await requester.send(each.url(), "msg_1", BODY, [SECRET])
            for each in (misnamed, unknown, receiver)
        ]

    assert [each.status for each in answers] == [None, None, 200]
    assert misnamed.got == unknown.got == []


async def test_a_receiver_that_never_answers(ca_file: Path, authority: trustme.CA) -> None:
    """The request ends at its time."""

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        await read_request(reader)
        await asyncio.Event().wait()

    async with (
        talking(authority, hang) as url,
        WebhookRequester.opened(SHORT_SECONDS, ALLOWED, ca_file, Names(LOOPBACK)) as requester,
    ):
        answer = await requester.send(url, "msg_1", BODY, [SECRET])

    assert (answer.status, answer.error) == (None, "no answer in 0.2 s")


def closing_after(octets: bytes) -> Talk:
    """Return a receiver that ends the connection after some octets of its answer."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(octets)
        await writer.drain()

    return close


async def test_a_receiver_that_closes_before_its_answer(
    requester: WebhookRequester, authority: trustme.CA
) -> None:
    """It does not count as one that has the event."""
    async with talking(authority, closing_after(b"HTTP/1.1 20")) as url:
        answer = await requester.send(url, "msg_1", BODY, [SECRET])

    assert answer.status is None
    assert answer.error is not None


async def test_a_receiver_that_closes_within_its_answer(
    requester: WebhookRequester, authority: trustme.CA
) -> None:
    """Its status counts: it is what the receiver says of the event."""
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    async with talking(authority, closing_after(half)) as url:
        answer = await requester.send(url, "msg_1", BODY, [SECRET])

    assert (answer.status, answer.body) == (200, b"half")
    assert (answer.error or "").startswith("the answer broke off")


async def test_an_endless_answer_is_not_read(
    requester: WebhookRequester, authority: trustme.CA
) -> None:
    """Its beginning is kept, and the connection closed: 10 GB are never sent."""
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        while True:
            writer.write(b"x" * (1 << 16))
            await writer.drain()
            sent += 1 << 16

    async with talking(authority, flood) as url:
        answer = await requester.send(url, "msg_1", BODY, [SECRET])

    assert (answer.status, answer.body) == (200, b"x" * MAX_ANSWER_BYTES)
    assert answer.error is None
    assert sent < 64 << 20


@pytest.mark.parametrize(
    "answer",
    [
        b"SMTP ready\r\n",
        b"HTTP/1.1 99999 no\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 20) + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % each for each in range(50_000)),
        b"\x00" * 1000,
    ],
    ids=["no-http", "no-status", "long-header", "many-headers", "zeros"],
)
async def test_an_answer_that_is_no_answer(
    requester: WebhookRequester, authority: trustme.CA, answer: bytes
) -> None:
    """It is an error in words, and nothing more."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    async with talking(authority, talk) as url:
        found = await requester.send(url, "msg_1", BODY, [SECRET])

    assert found.status is None
    assert found.error


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("120", 120.0), ("Sun, 01 Nov 2026 00:01:00 GMT", 60.0), ("soon", None), ("-5", None)],
)
async def test_the_time_that_a_receiver_asks_for(
    ca_file: Path, receiver: Receiver, header: str, seconds: float | None
) -> None:
    """It is seconds or a date (RFC 9110 10.2.3)."""

    async def busy(request: web.Request) -> web.Response:
        del request
        return web.Response(status=429, headers={"Retry-After": header})

    receiver.answers["/hooks"] = busy
    async with WebhookRequester.opened(
        TRY_SECONDS, ALLOWED, ca_file, Names(LOOPBACK), lambda: datetime(2026, 11, 1, tzinfo=UTC)
    ) as requester:
        answer = await requester.send(receiver.url(), "msg_1", BODY, [SECRET])

    assert (answer.status, answer.retry_after) == (429, seconds)
