"""Keys, routes, bodies and problem documents, on real sockets and a real broker."""

import asyncio
import gzip
import io
import json
import re
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from services.gateway.api import openapi
from services.gateway.api.openapi import Access
from services.gateway.api.problem import ProblemDocument
from services.gateway.app import OPERATIONS
from tests.gateway.api_client import ADMIN_TOKEN, MAIL, ApiClient, ApiResponse
from tests.waiting import PATIENCE_SECONDS

MIB = 1024 * 1024
LIMIT = 12 * MIB  # the default of GATEWAY_MAX_BODY


def problem(answer: ApiResponse) -> tuple[int, str]:
    """Return status and code of a valid problem document."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = ProblemDocument.model_validate(answer.json)
    assert document.status == answer.status
    assert document.request_id == answer.headers["X-Request-ID"]
    return document.status, document.code


async def test_ping_and_health_need_no_key(api: ApiClient) -> None:
    """Ping, health and the document need no key."""
    stranger = api.with_key("")

    assert (await stranger.call("GET", "/ping")).content == b"pong"
    assert (await stranger.call("GET", "/healthz")).json["status"] == "ok"
    ready = await stranger.call("GET", "/readyz")
    assert ready.json == {"status": "ok", "checks": {"broker": True, "database": True}}
    assert (await stranger.call("GET", "/v1/openapi.json")).json == json.loads(
        json.dumps(openapi.document(OPERATIONS))
    )


async def test_requests_are_counted_by_route(api: ApiClient) -> None:
    """Requests are counted by route, not by the paths that clients invent."""
    await api.call("PUT", "/v1/events/one.example/delivered")
    await api.call("DELETE", "/coffee/pot")

    counted = (await api.call("GET", "/metrics")).content.decode()

    assert (
        'postrider_http_requests_total{method="PUT",route="/v1/events/{domain}/delivered"'
        ',status="202"}' in counted
    )
    assert 'postrider_http_requests_total{method="other",route="other",status="404"}' in counted
    assert "coffee" not in counted


async def test_every_wrong_key_is_the_same_401(api: ApiClient) -> None:
    """Every wrong key is the same 401, on every route that needs one, before the body is read."""
    foreign = {
        Access.CLIENT: [f"Bearer {ADMIN_TOKEN}"],
        Access.ADMIN: [f"Bearer {api.key}"],
        Access.ANY: [],
    }
    for operation in (each for each in OPERATIONS if each.access is not Access.PUBLIC):
        path = re.sub(r"{\w+}", "shop", operation.path)
        headers = (*foreign[operation.access], "Bearer ", "Bearer \udcff", f"Basic {api.key}", "")
        answers = [
            await api.call(operation.method, path, headers={"Authorization": h}) for h in headers
        ]

        assert {problem(answer) for answer in answers} == {(401, "unauthorized")}, path
        challenges = {answer.headers["WWW-Authenticate"] for answer in answers}
        assert challenges == {'Bearer realm="postrider"'}
        assert not any("detail" in answer.json for answer in answers)


async def test_a_client_is_registered_once_and_revoked_at_once(api: ApiClient) -> None:
    """A key is valid from the 201 of its registration to the 204 of its revocation."""
    bank = await api.registered("bank")
    assert (await bank.call("PUT", "/v1/events/one.example/delivered")).status == 202

    again = await api.admin.post("/v1/clients", {"id": "bank"})
    assert problem(again) == (409, "client-exists")

    assert (await api.admin.call("DELETE", "/v1/clients/bank")).status == 204
    refused = await bank.call("PUT", "/v1/events/one.example/delivered")
    assert problem(refused) == (401, "unauthorized")
    for name in ("bank", "a%00b", "%C3%A9", "x" * 5000):
        missing = await api.admin.call("DELETE", f"/v1/clients/{name}")
        assert problem(missing) == (404, "no-such-client"), name

    renewed = await api.registered("bank")
    assert (await renewed.call("PUT", "/v1/events/one.example/delivered")).status == 202
    assert problem(await bank.call("PUT", "/v1/events/one.example/delivered"))[0] == 401


async def test_the_scheme_is_read_in_any_case(api: ApiClient) -> None:
    """An authentication scheme is case-insensitive (RFC 9110 11.1)."""
    answer = await api.call(
        "PUT",
        "/v1/events/one.example/delivered",
        headers={"Authorization": f"bearer {api.key}"},
    )

    assert answer.status == 202


async def test_wrong_paths_and_methods_are_problems(api: ApiClient) -> None:
    """Wrong paths and methods are problem documents; a 405 has Allow."""
    for method, path, expected in (
        ("GET", "/", (404, "not-found")),
        ("GET", "/v1/messages/", (404, "not-found")),
        ("GET", "/v2/messages", (404, "not-found")),
        ("GET", "/v1/otp", (405, "method-not-allowed")),
        ("PROPFIND", "/v1/messages", (405, "method-not-allowed")),
        ("POST", "/ping", (405, "method-not-allowed")),
        ("DELETE", "/v1/otp/verify", (405, "method-not-allowed")),
        ("GET", "/v1/domains/localhost", (422, "invalid")),
        ("GET", "/v1/domains/a%2Fb.example", (422, "invalid")),
        ("GET", "/v1/domains/%00.example", (422, "invalid")),
        ("PUT", "/v1/events/a%20b.example/bounced", (422, "invalid")),
    ):
        answer = await api.call(method, path)

        assert problem(answer) == expected, (method, path)
        assert ("Allow" in answer.headers) == (answer.status == 405)


async def test_a_path_has_the_methods_that_are_described_and_no_other(api: ApiClient) -> None:
    """A path is never read as the parameter of another path (issue 10, H4)."""
    for path, described in openapi.document(OPERATIONS)["paths"].items():
        if "{" in path:
            continue
        methods = {method.upper() for method in described}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - methods:
            answer = await api.call(method, path)

            assert problem(answer) == (405, "method-not-allowed"), (method, path)
            assert set(answer.headers["Allow"].split(",")) - {"HEAD"} == methods, (method, path)


async def test_wrong_bodies_are_problems(api: ApiClient) -> None:
    """A wrong type, syntax, size and content of a body have a status each."""
    for kind, body, expected in (
        ("text/plain", b"{}", (415, "unsupported-media-type")),
        ("application/x-www-form-urlencoded", b"to=a", (415, "unsupported-media-type")),
        ("application/json", b"{", (400, "malformed")),
        ("application/json", b'{"to": "\xe9"}', (400, "malformed")),
        ("application/json", b"[]", (400, "malformed")),
        ("application/json", b"{}", (422, "invalid")),
        ("application/json", b'"' + b"x" * LIMIT + b'"', (413, "too-large")),
    ):
        answer = await api.call(
            "POST", "/v1/messages", data=io.BytesIO(body), headers={"Content-Type": kind}
        )

        assert problem(answer) == expected, body[:20]


async def test_a_type_must_be_given(api: ApiClient) -> None:
    """A body without a Content-Type is a 415."""
    reader, writer = await _connect(api)
    writer.write(
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        + f"Authorization: Bearer {api.key}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    )

    assert b" 415 " in (await reader.read()).splitlines()[0]
    writer.close()


async def test_a_body_without_a_length_is_limited_too(api: ApiClient) -> None:
    """The limit holds for the bytes that arrive, also without a Content-Length."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(LIMIT // MIB + 1):
            yield b" " * MIB

    answer = await api.call(
        "POST", "/v1/messages", data=chunks(), headers={"Content-Type": "application/json"}
    )

    assert problem(answer) == (413, "too-large")


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/v1/messages", LIMIT),
        ("/v1/events", 2 * MIB),
        ("/v1/otp", 16 * 1024),
        ("/v1/otp/verify", 16 * 1024),
        ("/v1/clients", 192 * 1024),
    ],
)
async def test_a_body_over_the_endpoints_limit_is_refused_unread(
    api: ApiClient, path: str, limit: int
) -> None:
    """A Content-Length over the endpoint's limit is a 413, before the body is read."""
    key = ADMIN_TOKEN if path == "/v1/clients" else api.key
    reader, writer = await _connect(api)
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {limit + 1}\r\n\r\n".encode()
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
    writer.close()

    assert b" 413 " in head.splitlines()[0]


async def test_a_body_of_many_values_is_refused_on_every_endpoint(api: ApiClient) -> None:
    """A body of very many values is a 413 on every endpoint (issue 10, A2)."""
    for caller, path, items in (
        (api, "/v1/messages", 1_000_000),
        (api, "/v1/events", 600_000),
        (api.admin, "/v1/clients", 40_000),
    ):
        body = b'{"senders": [' + b"{}," * items + b"{}]}"
        answer = await caller.call(
            "POST", path, data=io.BytesIO(body), headers={"Content-Type": "application/json"}
        )

        assert problem(answer) == (413, "too-large"), path


async def test_a_compressed_body_is_limited_by_what_it_holds(api: ApiClient) -> None:
    """A compressed body is limited by its unpacked size."""
    answer = await api.call(
        "POST",
        "/v1/messages",
        data=gzip.compress(b" " * (LIMIT + 1)),
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )

    assert problem(answer) == (413, "too-large")


async def test_answers_are_not_cached_nor_guessed_at(api: ApiClient) -> None:
    """No response may be cached or sniffed, and none names the library."""
    for path in ("/ping", "/healthz", "/nowhere", "/v1/openapi.json"):
        headers = (await api.call("GET", path)).headers

        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Server"] == "postrider"


async def test_each_answer_in_json_ends_its_line(api: ApiClient) -> None:
    """Each JSON response ends with a line end, for terminals (issue 10, H9)."""
    for answer in (
        await api.post("/v1/messages", MAIL),
        await api.post("/v1/messages", {}),
        await api.post("/v1/events", [{"domain": "one.example", "kind": "bounced"}]),
        await api.call("GET", "/nowhere"),
        await api.call("GET", "/v1/openapi.json"),
    ):
        assert answer.content.endswith(b"}\n")


async def test_a_harmless_request_id_is_kept_and_another_is_not(api: ApiClient) -> None:
    """A safe X-Request-ID is kept; an unsafe one is replaced, so it cannot forge logs."""
    kept = await api.call("GET", "/nowhere", headers={"X-Request-ID": "trace-1"})
    given = await api.call("GET", "/nowhere", headers={"X-Request-ID": 'a"b' * 50})

    assert kept.headers["X-Request-ID"] == "trace-1"
    assert given.headers["X-Request-ID"] != 'a"b' * 50


async def test_the_log_has_the_request_and_no_secret(api: ApiClient) -> None:
    """The log has one line a request with client, id, status and reason, and no secret."""
    with capture_logs() as lines:
        sent = await api.post("/v1/messages", MAIL)
        await api.with_key("x.y.z").post("/v1/otp/verify", {"email": "a@x.example", "code": "47"})

    accepted, refused = (line for line in lines if line["event"] == "request")
    assert (accepted["client"], accepted["id"], accepted["status"]) == (
        "shop",
        sent.json["id"],
        202,
    )
    assert (refused["status"], refused["reason"]) == (401, "DecodeError")
    logged = json.dumps(lines)
    assert not any(secret in logged for secret in (api.key, "x.y.z", "Hello", '"47"'))


async def test_the_log_has_no_address(api: ApiClient) -> None:
    """An address in a path, also of no route, and in a query is masked in the log or absent."""
    with capture_logs() as lines:
        for path in (
            *("/v1/suppressions/ann@x.example", "/v1/suppressions/ann%40x.example/y"),
            *("/v1/messages/ann@x.example", "/v1/domains/ann@x.example", "/ann%2540x.example"),
            *("/v1/messages?recipient=ann@x.example&limit=0", "/v1/suppressions?after=ann@x"),
        ):
            await api.call("GET", path)

    logged = json.dumps(lines)
    assert "/v1/suppressions/a***@x.example" in logged
    assert "ann" not in logged


async def test_a_compression_that_cannot_be_undone_is_a_400(api: ApiClient) -> None:
    """A body that cannot be unpacked is a 400, without a traceback in the log."""
    with capture_logs() as lines:
        for content in (b"no gzip at all", b"\x1f\x8b\x08\x00" + b"x" * 9, b""):
            answer = await api.call(
                "POST",
                "/v1/messages",
                data=io.BytesIO(content),
                headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
            )

            assert problem(answer) == (400, "malformed")

    assert not any("exc_info" in line for line in lines)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"EHLO client.example\r\n\r\n",
        b"GET /ping HTTP/9.9\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
        b"POST /v1/otp HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2\r\n\r\n",
        b"POST /v1/otp HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS",
    ],
    ids=["SMTP", "version", "header", "long", "lengths", "smuggling", "TLS"],
)
async def test_bytes_that_are_no_http_get_a_problem(api: ApiClient, request_bytes: bytes) -> None:
    """Bytes that are no HTTP get a problem document, and no traceback in the log."""
    reader, writer = await _connect(api)
    with capture_logs() as lines:
        writer.write(request_bytes)
        async with asyncio.timeout(PATIENCE_SECONDS):
            answer = await reader.read()
    writer.close()

    head, _, body = answer.partition(b"\r\n\r\n")
    headers = head.decode().splitlines()
    too_long = len(request_bytes) > 8_190
    expected = (431, "headers-too-large") if too_long else (400, "malformed")
    assert headers[0].split()[1] == str(expected[0])
    assert "Content-Type: application/problem+json" in headers
    assert "Cache-Control: no-store" in headers
    document = ProblemDocument.model_validate_json(body)
    assert (document.status, document.code) == expected
    [line] = (line for line in lines if line["event"] == "no request")
    assert line["request_id"] == document.request_id
    assert not any("exc_info" in line for line in lines)


async def _connect(api: ApiClient) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
