"""Refusals by the HTTP library and by limits of connections, on real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.gateway import service
from services.gateway.api.problem import ProblemDocument
from tests.gateway.api_client import ApiClient, declare, settings
from tests.waiting import PATIENCE_SECONDS


@asynccontextmanager
async def gateway(vhost: str, data_dir: Path, **more: object) -> AsyncIterator[int]:
    """Run a gateway and yield its port."""
    await declare(vhost)
    async with service.serving(settings(vhost, data_dir, **more), asyncio.Event()) as port:
        yield port


async def answered(port: int, request: bytes = b"") -> tuple[str, dict[str, str], bytes]:
    """Send a request; return status line, headers and body, all empty without a response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.split(": ", 1) for line in lines), body


@pytest.mark.parametrize("path", ["/v1/otp", "/ping", "/nowhere"])
@pytest.mark.parametrize("expected", ["foo", "200-ok, 100-continue"])
async def test_an_expectation_that_is_not_known_is_a_problem(
    api: ApiClient, path: str, expected: str
) -> None:
    """An unknown expectation is a 417 with a request id (RFC 9110 10.1.1; issue 10, A8)."""
    port = int(api.url.rpartition(":")[2])
    with capture_logs() as lines:
        status, headers, body = await answered(
            port,
            f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: {expected}\r\nConnection: close\r\n"
            "Content-Length: 0\r\n\r\n".encode(),
        )

    document = ProblemDocument.model_validate_json(body)
    assert " 417 " in status
    assert (document.status, document.code) == (417, "expectation-failed")
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["X-Request-ID"] == document.request_id
    assert headers["Cache-Control"] == "no-store"
    assert [line["request_id"] for line in lines if line["event"] == "no request"] == [
        document.request_id
    ]


async def test_a_body_that_is_waited_for_is_asked_for_when_it_is_wanted(api: ApiClient) -> None:
    """A client hears "100 Continue" only for a body that will be read."""
    host, _, port = api.url.removeprefix("http://").partition(":")
    head = (
        b"POST /v1/otp/verify HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        b"Content-Type: application/json\r\nConnection: close\r\n"
    )
    key = f"Authorization: Bearer {api.key}\r\n".encode()
    for fields, expected in (
        (b"Content-Length: 2\r\n\r\n", b" 401 "),
        (key + b"Content-Length: 20000\r\n\r\n", b" 413 "),
        (key + b"Content-Length: 2\r\n\r\n", b" 100 "),
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head + fields)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert expected in await reader.readline()
            if expected == b" 100 ":
                await reader.readline()
                writer.write(b"{}")
                assert b" 422 " in await reader.readline()
        writer.close()


async def test_headers_without_an_end_are_refused(api: ApiClient) -> None:
    """Headers that are too large together are a 431."""
    port = int(api.url.rpartition(":")[2])
    fields = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 8_000) for number in range(40))

    status, headers, body = await answered(port, b"GET /ping HTTP/1.1\r\nHost: x\r\n" + fields)

    assert " 431 " in status
    assert headers["Connection"] == "close"
    assert ProblemDocument.model_validate_json(body).code == "headers-too-large"


async def test_a_connection_too_many_gets_a_problem(vhost: str, tmp_path: Path) -> None:
    """A connection too many gets a problem document; a reset would look like a network fault."""
    async with gateway(vhost, tmp_path, gateway_max_connections_by_address=1) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        status, headers, body = await answered(port)
        writer.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            ping = b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            while " 200 " not in (await answered(port, ping))[0]:
                pass

    assert " 503 " in status
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Retry-After"] == "5"
    document = ProblemDocument.model_validate_json(body)
    assert (document.code, document.request_id) == ("overloaded", headers["X-Request-ID"])


async def test_the_connections_of_a_proxy_are_those_of_many_callers(
    vhost: str, tmp_path: Path
) -> None:
    """The limit of connections from one address does not hold for a proxy."""
    given = {"gateway_max_connections_by_address": 1, "gateway_proxies": ["127.0.0.0/8"]}
    ping = b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    async with gateway(vhost, tmp_path, **given) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        status, _, body = await answered(port, ping)
        writer.close()

    assert (status.split()[1], body) == ("200", b"pong")


@pytest.mark.parametrize(
    ("sent", "status"), [(b"", ""), (b"GET /ping HTTP/1.1\r\nHost: x\r\nX-Slow: 1", "408")]
)
async def test_a_request_that_does_not_come_is_not_waited_for(
    vhost: str, tmp_path: Path, sent: bytes, status: str
) -> None:
    """A silent connection is closed; one that stops in its headers gets a 408 (issue 10, A6)."""
    async with gateway(vhost, tmp_path, gateway_header_seconds=0.3) as port:
        head, _, body = await answered(port, sent)

    assert head.split()[1:2] == ([status] if status else [])
    assert not body or ProblemDocument.model_validate_json(body).code == "timeout"
