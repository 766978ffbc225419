"""Providers' webhooks over HTTP, with a real broker and a ledger that answers as a test wants."""

import asyncio
import io
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import trustme

from services.gateway import service
from services.gateway.api.feedback import MAX_ASKED, MAX_BYTES
from services.gateway.feedback.events import PROVIDERS, ProviderRequest
from services.gateway.feedback.sns import SnsReader
from shared import topology
from shared.consumer import Handler
from shared.contracts import Contract, EmailFound, FindEmail, Report, decode
from tests.gateway import api_client
from tests.gateway.api_client import ApiClient, ApiResponse, declare
from tests.gateway.fake_service import FakeService, running_service
from tests.gateway.feedback import samples
from tests.gateway.feedback.fake_sns import FakeSns
from tests.gateway.feedback.samples import (
    LOGIN,
    MAIL,
    MAILGUN_KEY,
    MESSAGE_ID,
    OTHER_SENDGRID_KEY,
    RESEND_SECRET,
    TOPIC,
    mailgun,
    mailgun_event,
    postmark,
    postmark_bounce,
    postmark_delivery,
    resend,
    resend_event,
    sendgrid,
    sendgrid_event,
    signer,
)
from tests.gateway.test_app import problem
from tests.tap import Tap, tapped

pytestmark = pytest.mark.rabbit

SETTINGS = {
    "gateway_ses_topics": [TOPIC],
    "gateway_sendgrid_key": samples.sendgrid_key(),
    "gateway_postmark_login": LOGIN,
    "gateway_mailgun_key": MAILGUN_KEY,
    "gateway_resend_secret": RESEND_SECRET,
}


def found(question: FindEmail) -> Sequence[Contract]:
    """Answer with the mail if its Message-ID is asked for."""
    email = MAIL if question.message_id == MESSAGE_ID else None
    return [EmailFound(id=question.id, email=email)]


LEDGER: dict[type[Contract], Handler] = {FindEmail: FakeService(found)}


@pytest.fixture
async def stranger(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> AsyncIterator[ApiClient]:
    """Run a gateway to which all providers may speak; yield a client without a key."""
    await declare(vhost)
    settings = api_client.settings(vhost, tmp_path, gateway_answer_seconds=1, **SETTINGS)
    async with service.serving(settings, asyncio.Event()) as port:
        yield ApiClient(http, f"http://127.0.0.1:{port}")


async def post(api: ApiClient, provider: str, asked: ProviderRequest) -> ApiResponse:
    """Send the request of a provider."""
    headers = {"Content-Type": "application/json", "Authorization": "", **asked.headers}
    return await api.call("POST", f"/v1/feedback/{provider}", headers=headers, data=asked.body)


async def arrived(tap: Tap, count: int) -> list[Report]:
    """Wait for some reports."""
    reports = list[Report]()
    for _ in range(count):
        message = await tap.next()
        report = decode(message.type or "", message.body)
        assert isinstance(report, Report)
        reports.append(report)
    return reports


async def test_each_provider_reports(vhost: str, stranger: ApiClient) -> None:
    """A signed event becomes a report, of which the answer is sent when the broker has it."""
    now = int(time.time())
    asked = {
        "sendgrid": sendgrid(sendgrid_event("delivered"), seconds=now),
        "postmark": postmark(postmark_delivery()),
        "mailgun": mailgun(mailgun_event("delivered"), seconds=now),
        "resend": resend(resend_event("email.delivered"), seconds=now),
    }
    async with (
        tapped(vhost, topology.EVENTS) as tap,
        running_service(vhost, topology.LEDGER_QUESTIONS, LEDGER),
    ):
        for provider, request in asked.items():
            answer = await post(stranger, provider, request)

            assert (answer.status, answer.json) == (
                200,
                {"reported": 1, "unknown": 0, "ignored": 0},
            )
            [report] = await arrived(tap, 1)
            assert (report.source, report.email_id) == (provider, MAIL.email_id)
        assert tap.empty()
    counted = (await stranger.call("GET", "/metrics")).content.decode()
    assert 'postrider_feedback_events_total{end="delivered",provider="mailgun"} ' in counted


@pytest.fixture
async def sns(
    authority: trustme.CA, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FakeSns]:
    """Serve SNS on this machine, for gateways that start later."""
    async with FakeSns.serving(authority) as fake:
        reader = partial(SnsReader, connector=fake.connector(trusting))
        monkeypatch.setattr(service, "SnsReader", reader)
        yield fake


async def test_ses_reports_through_sns(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession, sns: FakeSns
) -> None:
    """SNS sends its JSON as a text: a subscription is confirmed, an event reported."""
    headers = {"Content-Type": "text/plain; charset=UTF-8"}
    await declare(vhost)
    given = api_client.settings(vhost, tmp_path, **SETTINGS)
    now = datetime.now(UTC)
    bodies = [
        signer().subscription(at=now),
        signer().notification(samples.ses_bounce("Permanent", "General"), at=now),
    ]
    async with (
        tapped(vhost, topology.EVENTS) as tap,
        running_service(vhost, topology.LEDGER_QUESTIONS, LEDGER),
        service.serving(given, asyncio.Event()) as port,
    ):
        api = ApiClient(http, f"http://127.0.0.1:{port}")
        path = "/v1/feedback/ses"
        answers = [await api.call("POST", path, None, headers, body) for body in bodies]
        [report] = await arrived(tap, 1)

    assert [each.json["reported"] for each in answers] == [0, 1]
    assert "Action=ConfirmSubscription" in sns.got[1]
    assert (report.kind, report.source, report.email_id) == ("bounced", "ses", MAIL.email_id)


async def test_events_of_one_request_are_reported_once(vhost: str, stranger: ApiClient) -> None:
    """Events about one fact are one report; those of no mail, and of opened mails, are counted."""
    other = sendgrid_event("delivered", **{"smtp-id": "<1@other.example>"})
    nobody = sendgrid_event("delivered", email="no address")
    bounce = sendgrid_event("bounce", reason=samples.UNKNOWN_USER)
    events = [*[bounce] * MAX_ASKED, sendgrid_event("delivered"), other, nobody, {"event": "open"}]
    async with (
        tapped(vhost, topology.EVENTS) as tap,
        running_service(vhost, topology.LEDGER_QUESTIONS, LEDGER),
    ):
        asked = sendgrid(*events, seconds=int(time.time()))
        answers = [await post(stranger, "sendgrid", asked) for _ in range(2)]
        reports = await arrived(tap, 4)

    for answer in answers:
        assert answer.json == {"reported": MAX_ASKED + 1, "unknown": 2, "ignored": 1}
    assert tap.empty()
    assert sorted(each.kind for each in reports) == ["bounced", "bounced", "delivered", "delivered"]
    assert len({each.id for each in reports}) == 2  # the same twice is one to those who count


async def test_the_provider_comes_again_while_the_ledger_is_away(
    vhost: str, stranger: ApiClient
) -> None:
    """Without an answer of the ledger nothing is reported, and the answer is a 503."""
    async with tapped(vhost, topology.EVENTS) as tap:
        answer = await post(stranger, "postmark", postmark(postmark_delivery()))

        assert problem(answer) == (503, "unavailable")
        assert "Retry-After" in answer.headers
        assert tap.empty()


async def test_the_provider_comes_again_for_a_mail_that_is_not_recorded_yet(
    vhost: str, stranger: ApiClient
) -> None:
    """A new event of an unknown mail is a 503; the reports beside it are published."""
    now = int(time.time())
    early = sendgrid_event("bounce", timestamp=now, **{"smtp-id": "<1@other.example>"})
    late = {**early, "timestamp": now - 120}
    async with (
        tapped(vhost, topology.EVENTS) as tap,
        running_service(vhost, topology.LEDGER_QUESTIONS, LEDGER),
    ):
        asked = sendgrid(sendgrid_event("delivered"), early, seconds=now)
        refused = await post(stranger, "sendgrid", asked)
        [report] = await arrived(tap, 1)
        taken = await post(stranger, "sendgrid", sendgrid(late, seconds=now))

    assert problem(refused) == (503, "unavailable")
    assert "Retry-After" in refused.headers
    assert report.kind == "delivered"
    assert taken.json == {"reported": 0, "unknown": 1, "ignored": 0}


async def test_the_provider_comes_again_while_no_queue_takes_reports(
    vhost: str, stranger: ApiClient
) -> None:
    """A report that is not kept is no success."""
    async with running_service(vhost, topology.LEDGER_QUESTIONS, LEDGER):
        answer = await post(stranger, "postmark", postmark(postmark_delivery()))

    assert problem(answer) == (503, "unavailable")


async def test_unsigned_requests_are_refused(stranger: ApiClient) -> None:
    """A wrong signature is a 403 and a wrong login a 401; both are counted."""
    event = sendgrid_event("delivered")
    forged = sendgrid(event, key=OTHER_SENDGRID_KEY, seconds=int(time.time()))
    login = postmark(postmark_delivery(), "postmark:wrong")

    assert problem(await post(stranger, "sendgrid", forged)) == (403, "invalid-signature")
    refused = await post(stranger, "postmark", login)
    assert problem(refused) == (401, "unauthorized")
    assert refused.headers["WWW-Authenticate"].startswith("Basic ")
    counted = (await stranger.call("GET", "/metrics")).content.decode()
    assert 'postrider_feedback_events_total{end="refused",provider="sendgrid"} ' in counted


@pytest.mark.parametrize("provider", [*PROVIDERS, "another", "dsn", "%00"])
async def test_a_provider_without_its_setting_is_not_there(api: ApiClient, provider: str) -> None:
    """Nobody speaks for a provider that is not set up."""
    answer = await post(api, provider, postmark(postmark_bounce("HardBounce")))

    assert problem(answer) == (404, "not-found")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_no_body_is_an_error_of_ours(stranger: ApiClient, provider: str) -> None:
    """Anything that anybody sends is refused, with the reason."""
    path = f"/v1/feedback/{provider}"
    given: list[tuple[str, bytes, int]] = [
        ("application/json", b"", 400),
        ("application/json", b"{", 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b'{"signature": {"timestamp": [], "token": {}}}', 400),
        ("application/json", b'{"Type": 1, "TopicArn": "\xff"}', 400),
        ("application/json", b"[" + b"1," * 60_000 + b"1]", 400),
        ("application/json", b" " * (MAX_BYTES + 1), 413),
        ("application/xml", b"<a/>", 415),
        ("text/plain", b"{}", 415),
    ]
    for media_type, body, status in given:
        headers = {"Content-Type": media_type, "Authorization": ""}
        answer = await stranger.call("POST", path, headers=headers, data=io.BytesIO(body))
        expected = {status, 401, 403, 413} if status == 400 else {status}
        if provider == "ses" and media_type == "text/plain":
            expected = {400}
        assert problem(answer)[0] in expected, (media_type, body[:50])


async def test_a_malformed_body_with_a_signature_is_a_400(stranger: ApiClient) -> None:
    """A body in another form than the documented one is malformed."""
    now = int(time.time())
    given = {
        "sendgrid": sendgrid(seconds=now),
        "mailgun": mailgun([], seconds=now),
        "resend": resend([], seconds=now),
    }
    answers = {name: await post(stranger, name, asked) for name, asked in given.items()}

    assert answers.pop("sendgrid").status == 200  # no events at all
    assert {problem(each) for each in answers.values()} == {(400, "malformed")}
