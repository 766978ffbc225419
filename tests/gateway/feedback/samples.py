"""Requests of providers in the form that they document, with values of our own, and their keys."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from cryptography.x509.oid import NameOID
from multidict import CIMultiDict

from services.gateway.feedback.events import ProviderRequest
from shared.contracts import Category, MailReference

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
AT = "2026-11-29T11:58:50.3963933Z"
SECONDS = int(NOW.timestamp()) - 70
ANN = "ann@x.example"
MESSAGE_ID = "<e1@our.example>"
UNKNOWN_USER = "550 5.1.1 <ann@x.example>: Recipient address rejected: User unknown"
POLICY = "550 5.7.1 Message refused by local policy"
MAIL = MailReference(
    email_id="e1",
    client="shop",
    category=Category.TRANSACTIONAL,
    message_id=MESSAGE_ID,
    recipient=ANN,
)
LOGIN = "postmark:correct-horse-battery"
MAILGUN_KEY = "0123456789abcdef0123456789abcdef"
RESEND_KEY = bytes(range(32))
RESEND_SECRET = f"whsec_{base64.b64encode(RESEND_KEY).decode()}"
SENDGRID_KEY = ec.derive_private_key(481516, ec.SECP256R1())
OTHER_SENDGRID_KEY = ec.derive_private_key(2342, ec.SECP256R1())
TOPIC = "arn:aws:sns:eu-west-1:123456789012:mail-events"
SNS = "https://sns.eu-west-1.amazonaws.com"
CERTIFICATE_URL = f"{SNS}/SimpleNotificationService-0a1b2c3d.pem"

Fields = dict[str, object]


def encoded(content: object) -> bytes:
    """Return JSON."""
    return json.dumps(content).encode()


def request(body: bytes, **headers: str) -> ProviderRequest:
    """Return a request; underscores in the names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ProviderRequest(CIMultiDict(named), body)


def sendgrid_key(key: ec.EllipticCurvePrivateKey = SENDGRID_KEY) -> str:
    """Return a verification key as SendGrid shows it."""
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def sendgrid_event(event: str, **more: object) -> Fields:
    """Return an event of SendGrid."""
    return {
        "email": ANN,
        "timestamp": SECONDS,
        "smtp-id": MESSAGE_ID,
        "event": event,
        "sg_event_id": "bm90IGEgcmVhbCBldmVudA",
        "sg_message_id": "Zk3aYc9FQ1u.recvd-7c55-1-6A1B-2.0",
        **more,
    }


def sendgrid(
    *events: object, key: ec.EllipticCurvePrivateKey = SENDGRID_KEY, seconds: int = SECONDS
) -> ProviderRequest:
    """Return a signed request of SendGrid."""
    body = encoded(events)
    signature = key.sign(f"{seconds}".encode() + body, ec.ECDSA(SHA256()))
    return request(
        body,
        X_Twilio_Email_Event_Webhook_Signature=base64.b64encode(signature).decode(),
        X_Twilio_Email_Event_Webhook_Timestamp=str(seconds),
    )


def postmark_bounce(type_: str, details: str = "", **more: object) -> Fields:
    """Return a bounce of Postmark."""
    return {
        "RecordType": "Bounce",
        "MessageStream": "outbound",
        "ID": 4815162342,
        "Type": type_,
        "TypeCode": 1,
        "Name": "A bounce",
        "Tag": "orders",
        "MessageID": "5c1f7a0e-0b9d-4c55-8f53-1d7a3f9a2c11",
        "Metadata": {"postrider": MESSAGE_ID},
        "ServerID": 23,
        "Description": "The server could not deliver the mail.",
        "Details": details,
        "Email": ANN,
        "From": "shop@our.example",
        "BouncedAt": AT,
        "DumpAvailable": True,
        "Inactive": True,
        "CanActivate": True,
        "Subject": "Your order",
        **more,
    }


def postmark_delivery(**more: object) -> Fields:
    """Return a delivery of Postmark."""
    return {
        "RecordType": "Delivery",
        "MessageStream": "outbound",
        "ServerID": 23,
        "MessageID": "5c1f7a0e-0b9d-4c55-8f53-1d7a3f9a2c11",
        "Recipient": ANN,
        "Tag": "orders",
        "DeliveredAt": AT,
        "Details": "smtp;250 2.0.0 OK",
        "Metadata": {"postrider": MESSAGE_ID},
        **more,
    }


def postmark(record: Fields, login: str = LOGIN) -> ProviderRequest:
    """Return a request of Postmark."""
    token = base64.b64encode(login.encode()).decode()
    return request(encoded(record), Authorization=f"Basic {token}")


def mailgun_event(event: str, **more: object) -> Fields:
    """Return an event of Mailgun; its Message-ID has no brackets."""
    return {
        "id": "G9Bn5sl1TC6nu79C8C0bwg",
        "event": event,
        "timestamp": SECONDS + 0.25,
        "log-level": "info",
        "recipient": ANN,
        "recipient-domain": "x.example",
        "tags": ["orders"],
        "user-variables": {},
        "flags": {"is-routed": False, "is-test-mode": False},
        "message": {
            "headers": {
                "to": ANN,
                "message-id": MESSAGE_ID.strip("<>"),
                "from": "shop@our.example",
                "subject": "Your order",
            },
            "attachments": [],
            "size": 809,
        },
        **more,
    }


def mailgun_status(code: int, message: str, **more: object) -> Fields:
    """Return the `delivery-status` of an event of Mailgun."""
    return {
        "tls": True,
        "mx-host": "mx.x.example",
        "attempt-no": 1,
        "description": "",
        "session-seconds": 1.25,
        "code": code,
        "message": message,
        **more,
    }


def mailgun(event: object, key: str = MAILGUN_KEY, seconds: int = SECONDS) -> ProviderRequest:
    """Return a signed request of Mailgun."""
    token = "a1" * 25
    digest = hmac.new(key.encode(), f"{seconds}{token}".encode(), hashlib.sha256).hexdigest()
    signature = {"timestamp": str(seconds), "token": token, "signature": digest}
    return request(encoded({"signature": signature, "event-data": event}))


def resend_event(type_: str, **more: object) -> Fields:
    """Return an event of Resend."""
    return {
        "type": type_,
        "created_at": AT,
        "data": {
            "broadcast_id": "8b146471-e88e-4322-86af-016cd36fd216",
            "created_at": AT,
            "email_id": "56761188-7520-42d8-8898-ff6fc54ce618",
            "message_id": MESSAGE_ID,
            "from": "Shop <shop@our.example>",
            "to": [ANN],
            "subject": "Your order",
            "tags": {"kind": "orders"},
            **more,
        },
    }


def resend(content: object, key: bytes = RESEND_KEY, seconds: int = SECONDS) -> ProviderRequest:
    """Return a signed request of Resend."""
    body = encoded(content)
    digest = hmac.digest(key, f"msg_1.{seconds}.".encode() + body, hashlib.sha256)
    return request(
        body,
        svix_id="msg_1",
        svix_timestamp=str(seconds),
        svix_signature=f"v1,{base64.b64encode(digest).decode()}",
    )


def ses_event(type_: str, name: str, content: Fields, **mail: object) -> Fields:
    """Return an event of SES; the Message-ID that SES has made is not ours."""
    return {
        "eventType": type_,
        "mail": {
            "timestamp": AT,
            "source": "shop@our.example",
            "sourceArn": "arn:aws:ses:eu-west-1:123456789012:identity/our.example",
            "sendingAccountId": "123456789012",
            "messageId": "0102019a2b3c4d5e-11111111-2222-3333-4444-555555555555-000000",
            "destination": [ANN],
            "headersTruncated": False,
            "headers": [
                {"name": "From", "value": "shop@our.example"},
                {"name": "Message-ID", "value": MESSAGE_ID},
            ],
            "commonHeaders": {"messageId": "0102019a2b3c4d5e-11111111", "subject": "Your order"},
            **mail,
        },
        name: content,
    }


def ses_bounce(kind: str, category: str, **recipient: object) -> Fields:
    """Return a bounce of SES."""
    bounce: Fields = {
        "bounceType": kind,
        "bounceSubType": category,
        "bouncedRecipients": [{"emailAddress": ANN, **recipient}],
        "timestamp": AT,
        "feedbackId": "0102019a2b3c4d5e-66666666-000000",
        "reportingMTA": "dns; b224-1.smtp-out.eu-west-1.amazonses.com",
    }
    return ses_event("Bounce", "bounce", bounce)


@dataclass(frozen=True)
class Signer:
    """A key of SNS and its certificate."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The certificate as SNS serves it."""
        return self.certificate.public_bytes(Encoding.PEM)

    def message(self, version: str = "2", **fields: str) -> Mapping[str, str]:
        """Return a signed message of SNS, as its documentation says."""
        signed = {
            "Type": "Notification",
            "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            "TopicArn": TOPIC,
            "Message": "{}",
            "Timestamp": "2026-11-29T11:59:00.000Z",
            **fields,
        }
        text = "".join(f"{name}\n{signed[name]}\n" for name in sorted(signed))
        algorithm = SHA1() if version == "1" else SHA256()  # noqa: S303 -- as SNS does
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), algorithm)
        return {
            **signed,
            "SignatureVersion": version,
            "Signature": base64.b64encode(signature).decode(),
            "SigningCertURL": CERTIFICATE_URL,
            "UnsubscribeURL": f"{SNS}/?Action=Unsubscribe",
        }

    def notification(self, event: object, version: str = "2", at: datetime = NOW) -> bytes:
        """Return the body of a request of SNS with an event of SES."""
        return encoded(
            self.message(
                version,
                Message=json.dumps(event),
                Subject="Amazon SES Email Event Notification",
                Timestamp=at.isoformat(),
            )
        )

    def subscription(self, url: str | None = None, at: datetime = NOW) -> bytes:
        """Return the body of a request of SNS that asks for a confirmation."""
        own = f"{SNS}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"
        return encoded(
            self.message(
                Type="SubscriptionConfirmation",
                Token="2336412f37",
                SubscribeURL=own if url is None else url,
                Timestamp=at.isoformat(),
                Message="You have chosen to subscribe to the topic.",
            )
        )


@cache
def signer(days: int = 36_500) -> Signer:
    """Return a key of SNS with a certificate that is valid for some days from a month before."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    begin = NOW - timedelta(days=30)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 1, begin, begin + timedelta(days=days)
    )
    return Signer(key, builder.sign(key, SHA256()))
