"""The page and the API, by HTTP."""

import asyncio
import base64
from collections.abc import AsyncIterator
from email.message import EmailMessage
from http import HTTPMethod

import aiohttp
import orjson
import pytest

from ops.simulator.behaviour import Behaviour
from ops.simulator.simulator import Simulator, SimulatorSettings
from tests.waiting import PATIENCE_SECONDS

Http = aiohttp.ClientSession
PNG = b"\x89PNG\r\n\x1a\nnot a whole image"
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
    """A message has its envelope, its headers, its bodies and the URL of its octets."""
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
    """`to` is a recipient, `recipient` a part of one, `search` a part of anything that is shown."""
    anna = keep(simulator, "Anna@x.example")
    bob = keep(simulator, "bob@x.example")

    assert await listed(http, recipient="OB@") == [bob]
    assert await listed(http, recipient="a@x.example") == [anna]
    assert await listed(http, to="bob@x.example", search="anna@") == []
    for part in ("a@X.example", "GRÜSSE".replace("SS", "ß"), " hello "):
        assert await listed(http, search=part) == [bob, anna]
    assert await listed(http, to="anna@X.example") == [anna]
    assert await listed(http, to="nobody@x.example") == []
    assert await listed(http, search="OB@") == [bob]
    assert await listed(http, limit="1") == [bob]
    assert await listed(http, brief="1") == [bob, anna]


async def listed(http: Http, **query: str) -> list[str]:
    """Return the ids of the found messages."""
    async with http.get("/api/messages", params=query) as answer:
        return [message["id"] for message in await answer.json()]


async def test_brief(simulator: Simulator, http: Http) -> None:
    """A brief list has no bodies, and the number of all mails."""
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
    """A mail's HTML has a policy that runs and loads nothing."""
    mail_id = keep(simulator)
    async with http.get(f"/api/messages/{mail_id}/html") as answer:
        rules = answer.headers["Content-Security-Policy"].split("; ")

    assert "sandbox allow-popups allow-popups-to-escape-sandbox" in rules
    assert "default-src 'none'" in rules
    assert not any(rule.startswith("script-src") for rule in rules)


async def test_source_is_text(simulator: Simulator, http: Http) -> None:
    """The source is served as plain text."""
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
    """The page loads nothing from elsewhere."""
    async with http.get(path) as answer:
        text = await answer.text()
        rules = answer.headers["Content-Security-Policy"]

    assert answer.content_type == kind
    assert "default-src 'none'" in rules
    assert "unsafe" not in rules
    assert "https://" not in text


async def test_pages(simulator: Simulator, http: Http) -> None:
    """All mails are found page by page, each once, also when mails come and go meanwhile."""
    ids = [keep(simulator) for _ in range(311)][::-1]
    found, url = [], "/api/messages?brief=1&limit=100&search=b@x"
    while url:
        async with http.get(url) as answer:
            found += [message["id"] for message in await answer.json()]
            assert answer.headers["X-Total-Count"] == str(len(simulator.mailbox))
            url = str(answer.links["next"]["url"]) if "next" in answer.links else ""
        keep(simulator)
        async with http.delete(f"/api/messages/{found[-1]}") as answer:
            assert answer.status == 204

    assert found == ids


def with_attachments(simulator: Simulator) -> str:
    """Keep a mail with an inline image and dangerous attachments; return its id."""
    mail = EmailMessage()
    mail.set_content("Hello\n")
    mail.add_alternative('<img src="cid:logo%40x"><img src=cid:none@x>', subtype="html")
    [_, html] = mail.iter_parts()
    assert isinstance(html, EmailMessage)
    html.add_related(PNG, "image", "png", cid="<logo@x>")
    mail.add_attachment(EVIL.encode(), "text", "html", filename='../"é\u202elmth.exe')
    mail.add_attachment("h\xe4llo", filename="note.txt", charset="iso-8859-1")
    forwarded = EmailMessage()
    forwarded["Subject"] = "Forwarded"
    mail.add_attachment(forwarded)
    return simulator.mailbox.keep("a@x.example", ["b@x.example"], mail.as_bytes()).id


async def test_attachments(simulator: Simulator, http: Http) -> None:
    """Attachments are listed, and served as files that run nothing."""
    mail_id = with_attachments(simulator)
    async with http.get("/api/messages") as answer:
        [message] = await answer.json()
    assert message["attachment_count"] == len(message["attachments"]) == 4
    assert [each["viewable"] for each in message["attachments"]] == [True, False, True, False]
    assert message["attachments"][0]["content_id"] == "logo@x"
    assert message["text"] == "Hello\n"

    served = [await attachment(http, each["url"]) for each in message["attachments"]]
    assert served[0] == ("image/png", "inline; filename*=UTF-8''unnamed.png", PNG)
    assert served[1] == (
        "application/octet-stream",
        "attachment; filename*=UTF-8''_%22%C3%A9lmth.exe",
        EVIL.encode(),
    )
    assert served[2][::2] == ("text/plain; charset=iso-8859-1", b"h\xe4llo\n")
    assert b"Subject: Forwarded" in served[3][2]
    for number in ("4", "999999"):
        async with http.get(f"/api/messages/{mail_id}/attachments/{number}") as answer:
            assert (answer.status, (await answer.json(content_type=None))["code"]) == (
                404,
                "unknown-attachment",
            )


async def attachment(http: Http, url: str) -> tuple[str, str, bytes]:
    """Return the type, disposition and octets of an attachment, which is held to its rules."""
    async with http.get(url) as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
        kind, disposition = answer.headers["Content-Type"], answer.headers["Content-Disposition"]
        return kind, disposition, await answer.read()


async def test_inline_images(simulator: Simulator, http: Http) -> None:
    """The HTML has the images that it names by Content-ID; an unknown name stays."""
    mail_id = with_attachments(simulator)
    async with http.get(f"/api/messages/{mail_id}/html") as answer:
        shown = await answer.text()

    assert f'<img src="data:image/png;base64,{base64.b64encode(PNG).decode()}">' in shown
    assert "<img src=cid:none@x>" in shown


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8025", "localhost.", "127.0.0.1:1", "[::1]:8025", "simulator:8025"],
)
async def test_own_host(host: str) -> None:
    """The mailbox answers to this machine's names and to configured ones."""
    async with (
        Simulator(SimulatorSettings(hosts=frozenset({"Simulator"}))) as opened,
        Http() as http,
        http.get(opened.web_url, headers={"Host": host}) as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "10.0.0.1:8025"])
@pytest.mark.parametrize("path", ["/", "/api/messages", "/api/events", "/nowhere"])
async def test_rebinding(http: Http, host: str, path: str) -> None:
    """A page whose name resolves to this machine reads nothing (DNS rebinding)."""
    async with http.get(path, headers={"Host": host}) as answer:
        problem = await answer.json(content_type="application/problem+json")

    assert (answer.status, problem["code"]) == (421, "unknown-host")


async def test_clear_some(simulator: Simulator, http: Http) -> None:
    """DELETE with a query removes the matching mails, with an id that one mail."""
    anna, bob, carl, dora = (keep(simulator, f"{name}@x.example") for name in "abcd")
    for path in ("?to=A@x.example", "?search=b@x", f"/{carl}"):
        async with http.delete(f"/api/messages{path}") as answer:
            assert answer.status == 204
    async with http.delete(f"/api/messages/{anna}") as answer:
        assert answer.status == 404

    assert bob != dora
    assert await listed(http) == [dora]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/messages?form=a", "unknown-parameter"),
        ("GET", "/api/messages/x?brief=1", "unknown-parameter"),
        ("GET", "/healthz?form=a", "unknown-parameter"),
        ("PUT", "/api/behaviour?latency_ms=1", "unknown-parameter"),
        ("DELETE", "/api/behaviour?form=a", "unknown-parameter"),
        ("GET", "/api/messages?brief=perhaps", "bad-brief"),
        ("GET", "/api/messages?to=a&to=b", "bad-to"),
        ("DELETE", "/api/messages?form=a", "unknown-parameter"),
        ("DELETE", "/api/messages?limit=1", "unknown-parameter"),
        ("DELETE", "/api/messages?to=", "bad-to"),
        ("DELETE", "/api/messages?search=", "bad-search"),
    ],
)
async def test_bad_queries(
    simulator: Simulator, http: Http, method: HTTPMethod, path: str, code: str
) -> None:
    """An unknown parameter is refused by its name, and nothing is deleted."""
    keep(simulator)
    async with http.request(method, path) as answer:
        problem = await answer.json(content_type="application/problem+json")

    assert (answer.status, problem["code"]) == (400, code)
    assert any(name in problem["detail"] for name in path.partition("?")[2].split("="))
    assert len(simulator.mailbox) == 1


async def test_published(http: Http) -> None:
    """The health check has the published address of SMTP, if it is configured."""
    async with (
        Simulator(SimulatorSettings(published="localhost:2599")) as opened,
        http.get(f"{opened.web_url}/healthz") as answer,
    ):
        assert (await answer.json())["smtp_published"] == "localhost:2599"


async def test_clear(simulator: Simulator, http: Http) -> None:
    """DELETE removes all messages."""
    keep(simulator)
    async with http.delete("/api/messages") as answer:
        assert answer.status == 204

    assert len(simulator.mailbox) == 0


async def test_behaviour(simulator: Simulator, http: Http) -> None:
    """PUT replaces the whole behaviour, GET returns it, DELETE resets it."""
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
    """The health check has the SMTP ports."""
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
        ("GET", "/api/messages?limit=1&limit=2", b"", 400, "bad-limit"),
        ("GET", "/api/messages?before=yesterday", b"", 400, "bad-before"),
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
    """A wrong behaviour is reported field by field."""
    bad = {"latency_ms": "5", "rate": {"per_second": 0}}
    async with http.put("/api/behaviour", json=bad) as answer:
        problem = orjson.loads(await answer.read())

    fields = [error["field"] for error in problem["errors"]]
    assert fields == ["latency_ms", "rate.per_second"]


async def test_live(simulator: Simulator, http: Http) -> None:
    """A listener gets the number of mails, at once and after each change."""
    async with asyncio.timeout(PATIENCE_SECONDS), http.get("/api/events") as events:
        assert events.content_type == "text/event-stream"
        assert b'{"count": 0}' in await events.content.readuntil(b"\n\n")
        keep(simulator)
        assert b'{"count": 1}' in await events.content.readuntil(b"\n\n")


async def test_close_with_listener() -> None:
    """A listener does not keep the simulator from closing."""
    async with asyncio.timeout(PATIENCE_SECONDS), Simulator() as simulator, Http() as http:
        events = await http.get(f"{simulator.web_url}/api/events")
        await events.content.readuntil(b"\n\n")
        await simulator.__aexit__()

        assert await events.content.read() == b""
