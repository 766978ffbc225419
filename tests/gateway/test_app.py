"""HTTP itself: who may ask, what is taken, how refusals look. Real sockets, real broker."""

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from services.gateway.api import openapi
from services.gateway.api.problem import ProblemDocument
from services.gateway.app import OPERATIONS
from tests.gateway.api_client import ADMIN_TOKEN, MAIL, ApiClient, ApiResponse

MIB = 1024 * 1024
LIMIT = 12 * MIB  # the default of GATEWAY_MAX_BODY


def problem(answer: ApiResponse) -> tuple[int, str]:
    """Give status and code of a problem document that is whole."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    told = ProblemDocument.model_validate(answer.json)
    assert told.status == answer.status
    assert told.request_id == answer.headers["X-Request-ID"]
    return told.status, told.code


async def test_ping_and_health_need_no_key(api: ApiClient) -> None:
    """An orchestrator asks without a key, and gets what it can read."""
    stranger = api.with_key("")

    assert (await stranger.call("GET", "/ping")).content == b"pong"
    assert (await stranger.call("GET", "/healthz")).json["status"] == "ok"
    ready = await stranger.call("GET", "/readyz")
    assert ready.json == {"status": "ok", "checks": {"broker": True, "database": True}}
    assert (await stranger.call("GET", "/v1/openapi.json")).json == json.loads(
        json.dumps(openapi.document(OPERATIONS))
    )


async def test_requests_are_counted_by_route(api: ApiClient) -> None:
    """The counters name routes, not what clients invent."""
    await api.call("PUT", "/v1/events/one.example/delivered")
    await api.call("DELETE", "/coffee/pot")

    counted = (await api.call("GET", "/metrics")).content.decode()

    assert (
        'postrider_http_requests_total{method="PUT",route="/v1/events/{domain}/delivered"'
        ',status="202"}' in counted
    )
    assert 'postrider_http_requests_total{method="other",route="other",status="404"}' in counted
    assert "coffee" not in counted


async def test_who_has_no_key_learns_nothing(api: ApiClient) -> None:
    """Every fault of a key is the same 401, on every route, before the body is looked at."""
    for method, path in (
        ("POST", "/v1/messages"),
        ("POST", "/v1/otp"),
        ("POST", "/v1/otp/verify"),
        ("PUT", "/v1/events/one.example/delivered"),
        ("PUT", "/v1/events/one.example/bounced"),
        ("GET", "/v1/domains/one.example"),
        ("POST", "/v1/clients"),
        ("DELETE", "/v1/clients/shop"),
    ):
        wrong = api.key if "clients" in path else ADMIN_TOKEN
        headers = (f"Bearer {wrong}", "Bearer ", "Bearer \udcff", f"Basic {api.key}", "")
        answers = [await api.call(method, path, headers={"Authorization": h}) for h in headers]

        assert {problem(answer) for answer in answers} == {(401, "unauthorized")}
        challenges = {answer.headers["WWW-Authenticate"] for answer in answers}
        assert challenges == {'Bearer realm="postrider"'}
        assert not any("detail" in answer.json for answer in answers)


async def test_a_client_is_registered_once_and_revoked_at_once(api: ApiClient) -> None:
    """The key works from the 201 on, and from the 204 on no more."""
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
    """RFC 9110 11.1: schemes are case-insensitive."""
    answer = await api.call(
        "PUT",
        "/v1/events/one.example/delivered",
        headers={"Authorization": f"bearer {api.key}"},
    )

    assert answer.status == 202


async def test_wrong_paths_and_methods_are_problems(api: ApiClient) -> None:
    """Every refusal is a problem document; a 405 tells what is allowed."""
    for method, path, expected in (
        ("GET", "/", (404, "not-found")),
        ("GET", "/v1/messages/", (404, "not-found")),
        ("GET", "/v2/messages", (404, "not-found")),
        ("GET", "/v1/messages", (405, "method-not-allowed")),
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
    """No path takes a name of its own for the parameter of another one (issue 10, H4)."""
    for path, described in openapi.document(OPERATIONS)["paths"].items():
        if "{" in path:
            continue
        methods = {method.upper() for method in described}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - methods:
            answer = await api.call(method, path)

            assert problem(answer) == (405, "method-not-allowed"), (method, path)
            assert set(answer.headers["Allow"].split(",")) - {"HEAD"} == methods, (method, path)


async def test_wrong_bodies_are_problems(api: ApiClient) -> None:
    """Type, syntax, size and content have a status each."""
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
    """A body without a Content-Type is not guessed at."""
    reader, writer = await _connect(api)
    writer.write(
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        + f"Authorization: Bearer {api.key}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    )

    assert b" 415 " in (await reader.read()).splitlines()[0]
    writer.close()


async def test_a_body_without_a_length_is_limited_too(api: ApiClient) -> None:
    """The limit counts what comes, not what is announced."""

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
        ("/v1/clients", 128 * 1024),
    ],
)
async def test_a_body_over_the_endpoints_limit_is_refused_unread(
    api: ApiClient, path: str, limit: int
) -> None:
    """Each endpoint takes what its contract can hold; the length that is announced is enough."""
    key = ADMIN_TOKEN if path == "/v1/clients" else api.key
    reader, writer = await _connect(api)
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {limit + 1}\r\n\r\n".encode()
    )
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    writer.close()

    assert b" 413 " in head.splitlines()[0]


async def test_a_body_of_many_values_is_refused_on_every_endpoint(api: ApiClient) -> None:
    """And nobody waits for it: the values are counted, not made (issue 10, A2)."""
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
    """A kilobyte that unpacks to megabytes is too large."""
    answer = await api.call(
        "POST",
        "/v1/messages",
        data=gzip.compress(b" " * (LIMIT + 1)),
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )

    assert problem(answer) == (413, "too-large")


async def test_answers_are_not_cached_nor_guessed_at(api: ApiClient) -> None:
    """What is answered is for the asker alone, and what we run on is nobody's business."""
    for path in ("/ping", "/healthz", "/nowhere", "/v1/openapi.json"):
        headers = (await api.call("GET", path)).headers

        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Server"] == "postrider"


async def test_each_answer_in_json_ends_its_line(api: ApiClient) -> None:
    """A terminal shows its prompt behind it (issue 10, H9)."""
    for answer in (
        await api.post("/v1/messages", MAIL),
        await api.post("/v1/messages", {}),
        await api.post("/v1/events", [{"domain": "one.example", "kind": "bounced"}]),
        await api.call("GET", "/nowhere"),
        await api.call("GET", "/v1/openapi.json"),
    ):
        assert answer.content.endswith(b"}\n")


async def test_a_harmless_request_id_is_kept_and_another_is_not(api: ApiClient) -> None:
    """A caller can find its request in our logs, but cannot write into them."""
    kept = await api.call("GET", "/nowhere", headers={"X-Request-ID": "trace-1"})
    given = await api.call("GET", "/nowhere", headers={"X-Request-ID": 'a"b' * 50})

    assert kept.headers["X-Request-ID"] == "trace-1"
    assert given.headers["X-Request-ID"] != 'a"b' * 50


async def test_the_log_tells_who_did_what_and_no_secret(api: ApiClient) -> None:
    """One line a request: actor, object, end and reason; no key, no token, no content."""
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
    told = json.dumps(lines)
    assert not any(secret in told for secret in (api.key, "x.y.z", "Hello", '"47"'))


async def test_a_compression_that_cannot_be_undone_is_a_400(api: ApiClient) -> None:
    """What the caller got wrong is no fault of ours, and fills no log with traces."""
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
async def test_what_is_no_http_is_a_problem_too(api: ApiClient, request_bytes: bytes) -> None:
    """A document like all others, no trace in the log, and the connection is closed."""
    reader, writer = await _connect(api)
    with capture_logs() as lines:
        writer.write(request_bytes)
        async with asyncio.timeout(10):
            answer = await reader.read()
    writer.close()

    head, _, body = answer.partition(b"\r\n\r\n")
    headers = head.decode().splitlines()
    too_long = len(request_bytes) > 8_190
    expected = (431, "headers-too-large") if too_long else (400, "malformed")
    assert headers[0].split()[1] == str(expected[0])
    assert "Content-Type: application/problem+json" in headers
    assert "Cache-Control: no-store" in headers
    told = ProblemDocument.model_validate_json(body)
    assert (told.status, told.code) == expected
    [line] = (line for line in lines if line["event"] == "no request")
    assert line["request_id"] == told.request_id
    assert not any("exc_info" in line for line in lines)


async def _connect(api: ApiClient) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
