"""The page and the API, by HTTP."""

import asyncio
from collections.abc import AsyncIterator
from email.message import EmailMessage
from http import HTTPMethod

import aiohttp
import orjson
import pytest

from ops.simulator.behaviour import Behaviour
from ops.simulator.simulator import Simulator

Http = aiohttp.ClientSession
EVIL = "<script>alert(1)</script><img src=http://x.example/i.png onerror=alert(1)>"


@pytest.fixture
async def http(simulator: Simulator) -> AsyncIterator[Http]:
    """Open a client whose base is the simulator's page."""
    async with Http(simulator.web_url) as session:
        yield session


def keep(simulator: Simulator, to: str = "b@x.example") -> str:
    """Keep a mail with text and HTML; return its id."""
    mail = EmailMessage()
    mail["Subject"] = "Grüße"
    mail.set_content("Hello\n")
    mail.add_alternative(f"<p>Hello</p>{EVIL}\n", subtype="html")
    return simulator.mailbox.keep("a@x.example", [to], mail.as_bytes()).id


async def test_messages(simulator: Simulator, http: Http) -> None:
    """A message has its envelope, its headers, its bodies and where its octets are."""
    mail_id = keep(simulator)
    async with http.get("/api/messages") as answer:
        [message] = await answer.json()

    assert message["id"] == mail_id
    assert (message["from"], message["to"]) == ("a@x.example", ["b@x.example"])
    assert message["subject"] == message["headers"]["Subject"] == "Grüße"
    assert message["received_at"].endswith("+00:00")
    assert message["text"] == "Hello\n"
    assert message["html"].startswith("<p>Hello</p>")
    async with http.get(message["raw_url"]) as answer:
        assert answer.content_type == "message/rfc822"
        assert await answer.read() == simulator.mailbox.find()[0].raw


async def test_filter(simulator: Simulator, http: Http) -> None:
    """`to` is a recipient of the envelope in any case; `search` a part of one."""
    anna = keep(simulator, "Anna@x.example")
    bob = keep(simulator, "bob@x.example")

    assert await listed(http, to="anna@X.example") == [anna]
    assert await listed(http, to="nobody@x.example") == []
    assert await listed(http, search="OB@") == [bob]
    assert await listed(http, limit="1") == [bob]
    assert await listed(http, brief="1") == [bob, anna]


async def listed(http: Http, **query: str) -> list[str]:
    """Return the ids of the messages that are found."""
    async with http.get("/api/messages", params=query) as answer:
        return [message["id"] for message in await answer.json()]


async def test_brief(simulator: Simulator, http: Http) -> None:
    """A brief list comes without bodies and says how many mails there are in all."""
    keep(simulator)
    keep(simulator)
    async with http.get("/api/messages?brief=1&limit=1") as answer:
        [message] = await answer.json()

    assert answer.headers["X-Total-Count"] == "2"
    assert not {"text", "html", "headers"} & message.keys()


async def test_one(simulator: Simulator, http: Http) -> None:
    """One message is found by its id."""
    mail_id = keep(simulator)
    async with http.get(f"/api/messages/{mail_id}") as answer:
        assert (await answer.json())["id"] == mail_id


async def test_hostile_mail(simulator: Simulator, http: Http) -> None:
    """A mail of garbage breaks neither the list nor a view."""
    raw = b"\xff\xfe\x00: \xff\r\nSubject: =?x?q?=FF?= \xed\xa0\x80\r\n\r\n\xff\x00"
    mail_id = simulator.mailbox.keep("", ["b@x.example"], raw).id
    for view in ("", "/raw", "/source", "/html"):
        async with http.get(f"/api/messages/{mail_id}{view}") as answer:
            assert answer.status == 200
    assert await listed(http) == [mail_id]


async def test_html_is_harmless(simulator: Simulator, http: Http) -> None:
    """A mail's HTML comes with a policy that runs and loads nothing."""
    mail_id = keep(simulator)
    async with http.get(f"/api/messages/{mail_id}/html") as answer:
        rules = answer.headers["Content-Security-Policy"].split("; ")

    assert "sandbox allow-popups allow-popups-to-escape-sandbox" in rules
    assert "default-src 'none'" in rules
    assert not any(rule.startswith("script-src") for rule in rules)


async def test_source_is_text(simulator: Simulator, http: Http) -> None:
    """The source is text and no browser takes it for anything else."""
    mail_id = keep(simulator)
    async with http.get(f"/api/messages/{mail_id}/source") as answer:
        assert answer.content_type == "text/plain"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert await answer.read() == simulator.mailbox.find()[0].raw


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")],
)
async def test_page(http: Http, path: str, kind: str) -> None:
    """The page is whole: it asks nobody else for anything."""
    async with http.get(path) as answer:
        text = await answer.text()
        rules = answer.headers["Content-Security-Policy"]

    assert answer.content_type == kind
    assert "default-src 'none'" in rules
    assert "unsafe" not in rules
    assert "https://" not in text


async def test_clear(simulator: Simulator, http: Http) -> None:
    """DELETE forgets all messages."""
    keep(simulator)
    async with http.delete("/api/messages") as answer:
        assert answer.status == 204

    assert len(simulator.mailbox) == 0


async def test_behaviour(simulator: Simulator, http: Http) -> None:
    """PUT replaces the behaviour as a whole, GET tells it, DELETE resets it."""
    async with http.put("/api/behaviour", json={"latency_ms": 5}) as answer:
        assert answer.status == 200
    async with http.put("/api/behaviour", json={"service_ms": 7}) as answer:
        put = await answer.json()
    assert simulator.behaviour == Behaviour(service_ms=7)
    async with http.get("/api/behaviour") as answer:
        assert await answer.json() == put
    async with http.put("/api/behaviour", json=put) as answer:
        assert simulator.behaviour == Behaviour(service_ms=7)
    async with http.delete("/api/behaviour") as answer:
        assert answer.status == 200
    assert simulator.behaviour == Behaviour()


async def test_health(simulator: Simulator, http: Http) -> None:
    """Health says where mail is taken."""
    async with http.get("/healthz") as answer:
        assert await answer.json() == {
            "status": "ok",
            "ports": {"smtp": simulator.smtp_port, "smtps": None},
        }


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", b"", 404, "not-found"),
        ("POST", "/api/messages", b"", 405, "method-not-allowed"),
        ("GET", "/api/messages/nobody", b"", 404, "unknown-message"),
        ("GET", "/api/messages?limit=0", b"", 400, "bad-limit"),
        ("GET", "/api/messages?limit=9999999999999", b"", 400, "bad-limit"),
        ("GET", "/api/messages?limit=%D9%A1", b"", 400, "bad-limit"),
        ("PUT", "/api/behaviour", b"{", 400, "bad-json"),
        ("PUT", "/api/behaviour", b"\xff", 400, "bad-json"),
        ("PUT", "/api/behaviour", b'{"latency": 1}', 422, "bad-behaviour"),
        ("PUT", "/api/behaviour", b" " * 70_000, 413, "request-entity-too-large"),
    ],
)
async def test_problems(  # noqa: PLR0913, PLR0917  # one row of a table
    http: Http, method: HTTPMethod, path: str, body: bytes, status: int, code: str
) -> None:
    """Every error is a problem document with a stable code (RFC 9457)."""
    async with http.request(method, path, data=body or None) as answer:
        problem = orjson.loads(await answer.read())

    assert answer.content_type == "application/problem+json"
    assert answer.status == problem["status"] == status
    assert problem["code"] == code


async def test_problem_fields(http: Http) -> None:
    """A bad behaviour is told field by field."""
    bad = {"latency_ms": "5", "rate": {"per_second": 0}}
    async with http.put("/api/behaviour", json=bad) as answer:
        problem = orjson.loads(await answer.read())

    fields = [error["field"] for error in problem["errors"]]
    assert fields == ["latency_ms", "rate.per_second"]


async def test_live(simulator: Simulator, http: Http) -> None:
    """A listener hears how many mails there are, at once and after each change."""
    async with asyncio.timeout(5), http.get("/api/events") as events:
        assert events.content_type == "text/event-stream"
        assert b'{"count": 0}' in await events.content.readuntil(b"\n\n")
        keep(simulator)
        assert b'{"count": 1}' in await events.content.readuntil(b"\n\n")


async def test_close_with_listener() -> None:
    """A listener does not keep the simulator from closing."""
    async with asyncio.timeout(5), Simulator() as simulator, Http() as http:
        events = await http.get(f"{simulator.web_url}/api/events")
        await events.content.readuntil(b"\n\n")
        await simulator.__aexit__()

        assert await events.content.read() == b""
