"""Traces through real processes: a request and all that follows from it are one trace."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import aio_pika
import orjson
import pytest
from aiormq.abc import FieldValue

from tests.collector import Collector, Spanned, chain, collecting, roots
from tests.journeys.stack import Stack, fresh_environ, running
from tests.journeys.test_submission import MAILS, Way, identified
from tests.journeys.user import User
from tests.waiting import until

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]

SMTP = "SMTP transaction"
SHARD = re.compile(r"(?<=\.)\d+$|(?<=delay\.)\w+|mail\.shards|mail\.commands")


class Traced(NamedTuple):
    """A stack with traces, and the collector of its spans."""

    stack: Stack
    collector: Collector


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """Run a stack whose services send their spans to a collector."""
    folder = tmp_path_factory.mktemp("traces")
    with collecting() as collector:
        environ = {
            **fresh_environ(folder),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-collector-key=hunter2",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "SENDER_FIRST_WAIT_TRANSACTIONAL": "1",
            "WEBHOOKS_ALLOW_NETWORKS": '["127.0.0.0/8"]',
            "WEBHOOKS_ALLOW_HTTP": "true",
        }
        with running(folder, environ) as stack:
            yield Traced(stack, collector)


@pytest.fixture
def collector(traced: Traced) -> Collector:
    """Return the collector of the stack."""
    return traced.collector


@pytest.fixture
async def user(traced: Traced) -> AsyncIterator[User]:
    """Return a user of the stack."""
    async with User.of(traced.stack.record) as somebody:
        yield somebody


class Context(NamedTuple):
    """A trace that a client has begun."""

    trace_id: str
    span_id: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request or message."""
        return {"traceparent": f"00-{self.trace_id}-{self.span_id}-01"}


def context() -> Context:
    """Return a new trace."""
    return Context(secrets.token_hex(16), secrets.token_hex(8))


def mail(to: str, **more: object) -> dict[str, object]:
    """Return the body of a request."""
    return {"to": to, "subject": "s", "text": "t", **more}


async def published(collector: Collector, message_id: str) -> Spanned:
    """Wait for a span that is about a message, and return it."""

    def found() -> list[Spanned]:
        id_ = {"messaging.message.id": message_id}
        return [each for each in collector.spans if each.attributes.items() >= id_.items()]

    async def is_there() -> bool:
        return bool(found())

    await until(is_there)
    return found()[0]


def ways(spans: list[Spanned]) -> list[str]:
    """Return the way to each SMTP transaction by the names of spans, without shards and delays."""
    sent = [each for each in spans if each.name == SMTP]
    return [" > ".join(SHARD.sub("*", name) for name in chain(spans, each)) for each in sent]


async def test_a_mail_is_one_trace(user: User, collector: Collector) -> None:
    """Its spans are one tree under the client's, to the reply of the relay."""
    client = context()
    await user.ask("POST", "/v1/messages", mail("one@mail.example"), headers=client.headers)
    spans = await collector.trace(client.trace_id, "POST", SMTP, parent=client.span_id)

    [way] = ways(spans)
    assert way == (
        "POST /v1/messages > publish *:email.send.transactional.*"
        " > process sender.transactional.* > SMTP transaction"
    )
    assert [(each.name, each.parent) for each in roots(spans)] == [
        ("POST /v1/messages", client.span_id)
    ]
    [sent] = [each for each in spans if each.name == SMTP]
    assert sent.service == "postrider-sender"
    assert (
        sent.attributes.items()
        >= {
            "server.address": "127.0.0.1",
            "postrider.attempt": 1,
            "postrider.smtp.stage": "dot",
            "postrider.smtp.reply_code": 250,
            "postrider.smtp.enhanced_status": "2.0.0",
            "postrider.smtp.accepted": 1,
        }.items()
    )
    assert not sent.failed
    assert {each.kind for each in spans} >= {"SERVER", "PRODUCER", "CONSUMER", "CLIENT"}


async def test_a_mail_by_smtp_is_one_trace(traced: Traced) -> None:
    """The trace of a mail that a program hands over by SMTP begins with its DATA."""
    reply = await asyncio.to_thread(Way(traced.stack).send, *identified(MAILS["8-bit"]))
    first = await published(traced.collector, reply.split()[-1])
    spans = await traced.collector.trace(first.trace_id, "SMTP DATA", SMTP, parent="")

    [way] = ways(spans)
    assert way == (
        "SMTP DATA > publish *:email.send.transactional.*"
        " > process sender.transactional.* > SMTP transaction"
    )
    [root] = roots(spans)
    assert (root.service, root.kind, root.failed) == ("postrider-inbound", "SERVER", False)
    assert (
        root.attributes.items()
        >= {
            "postrider.smtp.recipients": 1,
            "postrider.smtp.reply_code": 250,
            "postrider.smtp.enhanced_status": "2.0.0",
        }.items()
    )


async def test_a_batch_has_links(user: User, collector: Collector) -> None:
    """The ledger handles mails of many traces together, in a span with a link to each trace."""
    client = context()
    await user.ask("POST", "/v1/messages", mail("link@mail.example"), headers=client.headers)

    async def is_linked() -> bool:
        return any(
            each.name == "process ledger.mail" and client.trace_id in each.links
            for each in collector.spans
        )

    await until(is_linked)


async def test_another_attempt_continues_the_trace(user: User, collector: Collector) -> None:
    """A mail that is deferred has one trace over its delay: each attempt follows from the last."""
    client, to = context(), "greylist-1@later.example"
    await user.ask("POST", "/v1/messages", mail(to), headers=client.headers)
    await user.wait_for_mails(to, within=60)
    spans = await collector.trace(
        client.trace_id, "POST", "publish mail.events:email.delivered", parent=client.span_id
    )

    first, *_, last = sorted(ways(spans), key=len)
    attempts = sorted(
        (each.attributes["postrider.attempt"], each.attributes["postrider.smtp.reply_code"])
        for each in spans
        if each.name == SMTP
    )
    assert first.endswith("> process sender.transactional.* > SMTP transaction")
    assert last.startswith(
        f"{first.removesuffix(' > SMTP transaction')} > publish delay.*:sender.transactional.*"
        " > process sender.transactional.*"
    )
    assert attempts[0] == (1, 451)
    assert attempts[-1] == (len(attempts), 250)


async def test_a_code_leads_to_its_mail(user: User, collector: Collector) -> None:
    """The trace of a request for a code goes over otp to the relay, and no span has the code."""
    client, email = context(), "trace-code@mail.example"
    await user.ask("POST", "/v1/otp", {"email": email, "length": 8}, headers=client.headers)
    [received] = await user.wait_for_mails(email)
    spans = await collector.trace(client.trace_id, "POST", SMTP, parent=client.span_id)
    code = re.search(r"\b\d{8}\b", received["text"])

    [way] = ways(spans)
    assert way == (
        "POST /v1/otp > publish *:code.issue > process otp.commands"
        " > publish *:email.send.otp > process sender.otp > SMTP transaction"
    )
    assert code
    assert not collector.holds(code[0].encode())


async def test_a_scheduled_mail_continues_the_trace(user: User, collector: Collector) -> None:
    """The trace of a mail for later goes on when its time has come."""
    client, to = context(), "scheduled@mail.example"
    body = mail(to, scheduled_at=(datetime.now(UTC) + timedelta(days=1)).isoformat())
    answer = await user.ask("POST", "/v1/messages", body, headers=client.headers)
    at_once = {"scheduled_at": (datetime.now(UTC) - timedelta(minutes=1)).isoformat()}

    async def is_due() -> bool:  # once the scheduler has it
        path = f"/v1/messages/{answer.body['id']}"
        return (await user.ask("PATCH", path, at_once)).status == 200

    await until(is_due)
    await user.wait_for_mails(to, within=60)
    spans = await collector.trace(client.trace_id, "POST", SMTP, parent=client.span_id)

    [way] = ways(spans)
    assert answer.status == 202
    assert way.startswith("POST /v1/messages > publish *:email.schedule.transactional")
    assert " > process scheduler.mail > publish *:email.send.transactional" in way


async def test_a_webhook_continues_the_trace(user: User, collector: Collector) -> None:
    """The request to an endpoint has the traceparent of its span, in the trace of the mail."""
    hook = {"url": f"{collector.url}/hook?key=hunter2", "events": ["email.delivered"]}
    made = await user.ask("POST", "/v1/webhooks", hook)
    client = context()
    await user.ask("POST", "/v1/messages", mail("hook@mail.example"), headers=client.headers)
    told = await collector.request("/hook?key=hunter2", client.trace_id)
    _, trace_id, span_id, flags = told["traceparent"].split("-")

    async def has_come() -> bool:
        return any(each.id == span_id for each in collector.of(trace_id))

    await until(has_come)
    spans = await collector.trace(client.trace_id, "POST /v1", SMTP, parent=client.span_id)
    [request] = [each for each in spans if each.id == span_id]
    assert (made.status, trace_id, flags) == (201, client.trace_id, "01")
    assert (request.service, request.kind) == ("postrider-webhooks", "CLIENT")
    assert request.attributes["http.response.status_code"] == 200
    assert "publish mail.events:email.delivered" in chain(spans, request)


async def test_the_trace_of_a_program_is_continued(traced: Traced) -> None:
    """A command that another program publishes with a traceparent is in that program's trace."""
    client, key = context(), "email.send.transactional"
    more = {"id": client.trace_id, "category": "transactional", "to": ["program@mail.example"]}
    body = orjson.dumps({**mail(""), **more})
    connection = await aio_pika.connect(traced.stack.record["amqp_url"])
    async with connection, connection.channel() as channel:
        exchange = await channel.get_exchange("mail.commands", ensure=False)
        message = aio_pika.Message(body, type=key, headers=dict[str, FieldValue](client.headers))
        await exchange.publish(message, key)
    spans = await traced.collector.trace(client.trace_id, SMTP, parent=client.span_id)

    assert "process sender.transactional" in {each.name for each in spans}


@pytest.mark.parametrize(
    "malformed",
    [
        "00-1-2-01",
        f"00-{'0' * 32}-{'1' * 16}-01",
        f"ff-{'1' * 32}-{'1' * 16}-01",
        "x" * 5000,
        "\u00fc",
    ],
)
async def test_a_malformed_traceparent_is_ignored(
    user: User, collector: Collector, malformed: str
) -> None:
    """The mail is sent, and its request begins a trace."""
    headers = {"traceparent": malformed, "tracestate": "x=1"}
    answer = await user.ask("POST", "/v1/messages", mail("m@mail.example"), headers=headers)
    assert answer.status == 202
    first = await published(collector, answer.body["id"])
    spans = await collector.trace(first.trace_id, SMTP, parent="")
    assert [(each.name, each.parent) for each in roots(spans)] == [("POST /v1/messages", "")]


async def test_spans_have_no_content(user: User, collector: Collector) -> None:
    """No span has an address, a text or metadata of a mail, a key, or the path of an endpoint."""
    client = context()
    texts = {"subject": "secret-subject", "text": "secret-text", "html": "<p>secret-html</p>"}
    refused = "reply-rcpt-550-5-1-1+secret-address@mail.example"
    body = mail(refused, **texts, cc=["secret-cc@mail.example"], metadata={"a": "secret-metadata"})
    await user.ask("POST", "/v1/messages", body, headers=client.headers)
    path = "/v1/suppressions/secret-address@mail.example"
    await user.ask("GET", path, headers=client.headers)
    spans = await collector.trace(
        client.trace_id, SMTP, "POST", "GET /v1/suppressions", parent=client.span_id
    )

    assert {each.parent for each in roots(spans)} == {client.span_id}
    assert not collector.holds(b"secret-")
    assert not collector.holds(b"hunter2")
    assert {headers.get("x-collector-key") for headers in collector.exports} == {"hunter2"}


async def test_the_log_has_the_trace(user: User, collector: Collector, traced: Traced) -> None:
    """The lines of a request and of the handling of its mail have the id of the trace."""
    client = context()
    await user.ask("POST", "/v1/messages", mail("log@mail.example"), headers=client.headers)
    await collector.trace(client.trace_id, "POST", SMTP, parent=client.span_id)
    logs = Path(traced.stack.run_dir) / "logs"

    async def is_logged() -> bool:
        texts = [(logs / f"{service}.log").read_text() for service in ("gateway", "sender")]
        return all(f'"trace_id":"{client.trace_id}"' in text for text in texts)

    await until(is_logged)
