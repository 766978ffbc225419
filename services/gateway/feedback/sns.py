"""Amazon SNS, by which SES tells its events: its signatures, certificates and subscriptions."""

import asyncio
import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar, Self

import aiohttp
import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from yarl import URL

from services.gateway.api import body
from services.gateway.feedback import ses
from services.gateway.feedback.events import (
    MAX_CLOCK_AHEAD,
    ProviderEvent,
    malformed,
    moment,
    refused,
)
from shared.contracts import ReportSource
from shared.errors import Unavailable

TOPIC = r"arn:(aws[a-z-]*):sns:([a-z]{2}(?:-[a-z]+)+-\d):\d{12}:[A-Za-z0-9_.-]{1,256}"
MAX_AGE = timedelta(hours=1, minutes=5)  # SNS tries for at most an hour, with the first signature
FETCH_TIMEOUT = aiohttp.ClientTimeout(5.0)  # SNS waits 15 seconds for an answer
MAX_CERTIFICATE_BYTES = 32 * 1024  # one has 2
MAX_CERTIFICATES = 16  # one for each region is used for about a year
_CERTIFICATE_PATH = re.compile(r"/SimpleNotificationService-[0-9a-f]{1,64}\.pem")
_NOTIFICATION = "Notification"
_SUBSCRIPTION = "SubscriptionConfirmation"
# The fields that are signed, each with its name (docs: Verifying the signatures of SNS messages).
_SIGNED = {
    _NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    **dict.fromkeys(
        (_SUBSCRIPTION, "UnsubscribeConfirmation"),
        ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
}
_HASHES = {"1": SHA1(), "2": SHA256()}  # noqa: S303 -- the version 1 of SNS, its default

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SnsMessage:
    """A message of SNS, whose signature nothing has checked yet."""

    fields: Mapping[str, str]

    @classmethod
    def read(cls, content: bytes, topics: Sequence[str]) -> Self:
        """Return a message to one of the topics. Raises Problem."""
        found = body.parse_object(content)
        fields = {name: value for name, value in found.items() if isinstance(value, str)}
        message = cls(fields)
        if message.type not in _SIGNED or fields.get("SignatureVersion") not in _HASHES:
            raise malformed()
        if message.topic not in topics:
            raise refused("another topic")
        return message

    @property
    def type(self) -> str:
        """Its type."""
        return self.fields.get("Type", "")

    @property
    def topic(self) -> str:
        """The ARN of its topic."""
        return self.fields.get("TopicArn", "")

    @property
    def certificate_url(self) -> URL:
        """The URL of the certificate, which is of SNS in the topic's region. Raises Problem."""
        url = self._url("SigningCertURL")
        if not _CERTIFICATE_PATH.fullmatch(url.raw_path) or url.raw_query_string:
            raise refused("the certificate is not one of SNS")
        return url

    @property
    def subscribe_url(self) -> URL:
        """The URL that confirms the subscription to the topic. Raises Problem."""
        url = self._url("SubscribeURL")
        asked = (url.query.get("Action"), url.query.get("TopicArn"))
        if asked != ("ConfirmSubscription", self.topic) or url.raw_path != "/":
            raise refused("the URL confirms no subscription to the topic")
        return url

    def _url(self, name: str) -> URL:
        found = re.fullmatch(TOPIC, self.topic)
        if found is None:
            raise refused("the topic is none of SNS")
        end = ".cn" if found[1] == "aws-cn" else ""
        try:
            url = URL(self.fields.get(name, ""))
            origin = url.origin() if url.is_absolute() else URL()
        except ValueError:
            origin = URL()
        if str(origin) != f"https://sns.{found[2]}.amazonaws.com{end}":
            raise refused(f"{name} is not at SNS")
        return url

    def verify(self, certificate: x509.Certificate, now: datetime) -> None:
        """Check the signature and its time. Raises Problem."""
        key = certificate.public_key()
        names = [name for name in _SIGNED[self.type] if name in self.fields]
        signed = "".join(f"{name}\n{self.fields[name]}\n" for name in names)
        try:
            signature = base64.b64decode(self.fields.get("Signature", ""), validate=True)
            if not isinstance(key, RSAPublicKey):
                raise refused("the certificate has no RSA key")
            version = _HASHES[self.fields["SignatureVersion"]]
            key.verify(signature, signed.encode(), PKCS1v15(), version)
        except (InvalidSignature, binascii.Error, ValueError):
            raise refused("the signature is wrong") from None
        at = moment(self.fields.get("Timestamp"))
        if at is None or not -MAX_CLOCK_AHEAD <= now - at <= MAX_AGE:
            raise refused("its time is not near")


@dataclass(frozen=True, slots=True)
class SnsReader:
    """Reads the messages of SNS to some topics, and confirms the subscriptions to these."""

    source: ClassVar[ReportSource] = ReportSource.SES

    topics: Sequence[str]
    connector: Callable[[], aiohttp.BaseConnector] = aiohttp.TCPConnector
    certificates: dict[str, x509.Certificate] = field(default_factory=dict)
    fetching: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self, content: bytes, now: datetime) -> Sequence[ProviderEvent | None]:
        """Return the events of a message. Raises Problem, and Unavailable while AWS is away.

        Safe to repeat: a subscription that is confirmed again stays as it is.
        """
        message = SnsMessage.read(content, self.topics)
        certificate = await self._certificate(message.certificate_url, now)
        message.verify(certificate, now)
        if message.type == _NOTIFICATION:
            return ses.read_events(message.fields.get("Message", ""))
        if message.type == _SUBSCRIPTION:
            await self._fetch(message.subscribe_url)
        logger.warning("a subscription has changed", topic=message.topic, type=message.type)
        return [None]

    async def _certificate(self, url: URL, now: datetime) -> x509.Certificate:
        """Return a certificate that is valid now. Raises Problem or Unavailable.

        Anybody may name URLs of certificates that do not exist: only one is fetched at a time, and
        nothing waits for it.
        """
        certificate = self.certificates.get(str(url))
        if certificate is None:
            if self.fetching.locked():
                raise Unavailable("another certificate is being fetched")
            async with self.fetching:
                content = await self._fetch(url)
            try:
                certificate = x509.load_pem_x509_certificate(content)
            except ValueError:
                raise refused("the certificate cannot be read") from None
            while len(self.certificates) >= MAX_CERTIFICATES:
                del self.certificates[next(iter(self.certificates))]
            self.certificates[str(url)] = certificate
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise refused("the certificate is not valid now")
        return certificate

    async def _fetch(self, url: URL) -> bytes:
        """Return the beginning of what SNS serves at a URL. Raises Problem or Unavailable."""
        try:
            # Once a year for a certificate: it is not worth a session that stays open.
            async with (
                aiohttp.ClientSession(connector=self.connector(), timeout=FETCH_TIMEOUT) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                content = await response.content.read(MAX_CERTIFICATE_BYTES)
                while not response.content.at_eof() and len(content) < MAX_CERTIFICATE_BYTES:
                    content += await response.content.read(MAX_CERTIFICATE_BYTES - len(content))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"SNS is away: {type(error).__name__}") from None
        if response.status >= 500:  # noqa: PLR2004 -- RFC 9110 15.6
            raise Unavailable(f"SNS answers {response.status}")
        if response.status != 200:  # noqa: PLR2004 -- RFC 9110 15.3.1
            raise refused(f"SNS answers {response.status} to a URL in the message")
        return content
