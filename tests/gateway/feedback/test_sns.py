"""Amazon SNS: signatures, certificates and subscriptions, with a web server in its place."""

import json
import ssl
from collections.abc import AsyncIterator, Mapping

import pytest
import trustme
from aiohttp import web

from services.gateway.api.problem import Problem
from services.gateway.feedback.events import ProviderEvent
from services.gateway.feedback.sns import MAX_CERTIFICATES, SnsMessage, SnsReader
from shared.contracts import ReportKind
from shared.errors import Unavailable
from tests.gateway.feedback.fake_sns import FakeSns
from tests.gateway.feedback.samples import (
    CERTIFICATE_URL,
    NOW,
    SNS,
    TOPIC,
    encoded,
    ses_bounce,
    signer,
)


@pytest.fixture
async def sns(authority: trustme.CA) -> AsyncIterator[FakeSns]:
    """Serve https://sns.eu-west-1.amazonaws.com on this machine."""
    async with FakeSns.serving(authority) as fake:
        yield fake


@pytest.fixture
def reader(sns: FakeSns, trusting: ssl.SSLContext) -> SnsReader:
    """Return a reader that reaches this machine under the names of AWS."""
    return SnsReader([TOPIC], sns.connector(trusting))


async def refusal(reader: SnsReader, content: bytes) -> str:
    """Return the code of a refusal."""
    with pytest.raises(Problem) as error:
        await reader.read(content, NOW)
    return error.value.type.code


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_signed_event_is_read(sns: FakeSns, reader: SnsReader, version: str) -> None:
    """Both versions of signatures are verified; the certificate is fetched once."""
    content = signer().notification(ses_bounce("Permanent", "General"), version)

    for _ in range(2):
        [event] = await reader.read(content, NOW)
        assert isinstance(event, ProviderEvent)
        assert event.kind is ReportKind.BOUNCED
    assert sns.got == ["/SimpleNotificationService-0a1b2c3d.pem"]


async def test_a_subscription_to_our_topic_is_confirmed(sns: FakeSns, reader: SnsReader) -> None:
    """The URL of the message is called, which confirms it."""
    assert await reader.read(signer().subscription(), NOW) == [None]

    assert sns.got[1] == f"/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"


async def test_a_subscription_that_aws_does_not_confirm_comes_again(
    sns: FakeSns, reader: SnsReader
) -> None:
    """While AWS fails, SNS is told to try again."""
    await reader.read(signer().notification({}), NOW)
    sns.answer = web.Response(status=500)

    with pytest.raises(Unavailable):
        await reader.read(signer().subscription(), NOW)


@pytest.mark.parametrize(
    "url",
    [
        "https://sns.eu-west-1.amazonaws.com.evil.example/?Action=ConfirmSubscription",
        f"https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}",
        f"http://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}",
        f"https://u@sns.eu-west-1.amazonaws.com:444/?Action=ConfirmSubscription&TopicArn={TOPIC}",
        f"{SNS}/?Action=DeleteTopic&TopicArn={TOPIC}",
        f"{SNS}/?Action=ConfirmSubscription&TopicArn={TOPIC}-other",
        f"{SNS}/elsewhere?Action=ConfirmSubscription&TopicArn={TOPIC}",
        "no url",
        "https://[",
        "",
    ],
)
async def test_no_other_url_is_called(sns: FakeSns, reader: SnsReader, url: str) -> None:
    """A signed message confirms nothing but its own subscription, at SNS."""
    assert await refusal(reader, signer().subscription(url=url)) == "invalid-signature"

    assert len(sns.got) == 1  # for the certificate


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/SimpleNotificationService-0a1b2c3d.pem",
        "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-0a1b.pem",
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0a1b2c3d.pem",
        "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a1b2c3d.pem",
        f"{SNS}/other.pem",
        f"{SNS}/SimpleNotificationService-0a1b2c3d.pem?x=1",
        f"{SNS}/deep/SimpleNotificationService-0a1b2c3d.pem",
        "/SimpleNotificationService-0a1b2c3d.pem",
        "",
    ],
)
async def test_no_other_certificate_is_fetched(sns: FakeSns, reader: SnsReader, url: str) -> None:
    """A certificate is fetched from SNS, in the region of the topic, by https."""
    content = {**signer().message(), "SigningCertURL": url}

    assert await refusal(reader, encoded(content)) == "invalid-signature"
    assert sns.got == []


@pytest.mark.parametrize(
    "change",
    [
        {"Message": "[]"},
        {"Subject": "Added"},
        {"TopicArn": f"{TOPIC}-other"},
        {"SignatureVersion": "1"},
        {"Signature": "AAAA"},
        {"Signature": "no base64 ***"},
        {"Timestamp": "2026-11-29T11:59:30.000Z"},
    ],
)
async def test_a_changed_message_is_refused(
    sns: FakeSns, reader: SnsReader, change: Mapping[str, str]
) -> None:
    """Each field of a message is signed."""
    assert sns.got == []
    assert await refusal(reader, encoded({**signer().message(), **change})) == "invalid-signature"


@pytest.mark.parametrize(
    ("timestamp", "is_read"),
    [
        ("2026-11-29T11:00:00.000Z", True),  # the last try of SNS has the first time
        ("2026-11-29T10:50:00.000Z", False),
        ("2026-11-29T12:06:00.000Z", False),
        ("soon", False),
    ],
)
async def test_an_old_message_is_refused(
    sns: FakeSns, reader: SnsReader, timestamp: str, *, is_read: bool
) -> None:
    """A message is read for as long as SNS tries."""
    assert sns.port
    content = encoded(signer().message(Timestamp=timestamp))

    if is_read:
        assert await reader.read(content, NOW) == [None]
    else:
        assert await refusal(reader, content) == "invalid-signature"


async def test_another_key_and_an_old_certificate_are_refused(
    sns: FakeSns, reader: SnsReader
) -> None:
    """The certificate that SNS serves counts, while it is valid."""
    other = signer(10)
    assert await refusal(reader, other.notification({})) == "invalid-signature"
    reader.certificates.clear()
    sns.answer = web.Response(body=other.pem)
    assert await refusal(reader, other.notification({})) == "invalid-signature"


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=404),
        web.Response(status=302, headers={"Location": "https://evil.example/"}),
        web.Response(body=b"no certificate"),
        web.Response(body=b"-" * 1_000_000),
    ],
    ids=["missing", "redirect", "text", "large"],
)
async def test_what_is_no_certificate_is_refused(
    sns: FakeSns, reader: SnsReader, answer: web.Response
) -> None:
    """A redirect is not followed, and no more than a certificate is read."""
    sns.answer = answer

    assert await refusal(reader, signer().notification({})) == "invalid-signature"
    assert reader.certificates == {}


async def test_one_certificate_is_fetched_at_a_time(sns: FakeSns, reader: SnsReader) -> None:
    """Requests with invented certificates cannot keep others waiting."""
    assert await reader.read(signer().notification({}), NOW) == [None]
    async with reader.fetching:
        assert await reader.read(signer().notification({}), NOW) == [None]  # it is kept
        reader.certificates.clear()
        with pytest.raises(Unavailable):
            await reader.read(signer().notification({}), NOW)
    assert len(sns.got) == 1


async def test_few_certificates_are_kept(sns: FakeSns, reader: SnsReader) -> None:
    """The oldest certificate makes room for a new one."""
    for number in range(MAX_CERTIFICATES + 3):
        url = CERTIFICATE_URL.replace("0a1b2c3d", f"{number:08x}")
        content = encoded({**signer().message(), "SigningCertURL": url})
        assert await reader.read(content, NOW) == [None]

    assert len(reader.certificates) == MAX_CERTIFICATES
    assert len(sns.got) == MAX_CERTIFICATES + 3


async def test_an_unreachable_sns_is_asked_again(trusting: ssl.SSLContext) -> None:
    """Without the certificate nothing is known of the signature: SNS comes again."""
    nowhere = FakeSns(port=1).connector(trusting)

    with pytest.raises(Unavailable):
        await SnsReader([TOPIC], nowhere).read(signer().notification({}), NOW)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        encoded({**signer().message(), "Type": "Other"}),
        encoded({**signer().message(), "SignatureVersion": "3"}),
        json.dumps(ses_bounce("Permanent", "General")).encode(),  # by raw message delivery
    ],
)
def test_another_form_is_malformed(content: bytes) -> None:
    """A body that is no message of SNS is refused before anything is fetched."""
    with pytest.raises(Problem) as error:
        SnsMessage.read(content, [TOPIC])

    assert error.value.type.code == "malformed"
