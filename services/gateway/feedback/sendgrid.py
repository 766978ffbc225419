"""Pure: the signed event webhook of SendGrid (docs: Event Webhook Reference, 2026-11)."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from services.gateway.api import body
from services.gateway.api.problem import TOO_LARGE, Problem
from services.gateway.feedback.events import (
    ProviderEvent,
    ProviderRequest,
    check_fresh,
    mailbox,
    malformed,
    message_id,
    moment,
    part,
    refused,
    text,
)
from shared.contracts import ReplyClass, ReportKind, ReportSource

SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"
# It tries again for a day, and documents no new signature for that. A repeat changes nothing.
MAX_AGE = timedelta(days=1)
MAX_EVENTS = 5_000  # of one body, which has 768 KB
OUR_ID = "postrider"  # the unique argument that the sender adds, and SendGrid returns

_KINDS = {
    "bounce": ReportKind.BOUNCED,
    "dropped": ReportKind.BOUNCED,
    "deferred": ReportKind.DELAYED,
    "delivered": ReportKind.DELIVERED,
    "spamreport": ReportKind.COMPLAINED,
}
# `bounce_classification` of a bounce; it does not say of which server a reputation is bad.
_CLASSES: Mapping[str, ReplyClass] = {
    "Invalid Address": ReplyClass.MAILBOX_UNKNOWN,
    "Mailbox Unavailable": ReplyClass.MAILBOX_DISABLED,
    "Content": ReplyClass.CONTENT,
    "Reputation": ReplyClass.SPAM_BLOCK,
    "Frequency or Volume Too High": ReplyClass.RATE,
    "Technical Failure": ReplyClass.TEMPORARY,
}
# `reason` of a mail that was dropped. Most are about earlier mails: this one met no server.
_DROPS: Mapping[str, ReplyClass] = {
    "Invalid": ReplyClass.PROTOCOL,
    "Spam Content": ReplyClass.CONTENT,
    "Recipient List over Package Quota": ReplyClass.RATE,
}


def read_keys(texts: str) -> Sequence[EllipticCurvePublicKey]:
    """Return the public keys of a setting, with commas between them. Raises ValueError."""
    keys = list[EllipticCurvePublicKey]()
    for each in texts.split(","):
        try:
            key = load_der_public_key(base64.b64decode(each.strip(), validate=True))
        except ValueError:
            key = None
        if not isinstance(key, EllipticCurvePublicKey):
            raise ValueError("must be the verification key as SendGrid shows it")  # noqa: TRY004
        keys.append(key)
    return keys


@dataclass(frozen=True, slots=True)
class SendGrid:
    """Reads the requests of SendGrid that one of the keys verifies."""

    source: ClassVar[ReportSource] = ReportSource.SENDGRID

    keys: Sequence[EllipticCurvePublicKey] = field(repr=False)

    def read(self, request: ProviderRequest, now: datetime) -> Sequence[ProviderEvent | None]:
        """Return the events of a request. Raises Problem."""
        timestamp = request.header(TIMESTAMP)
        try:
            signature = base64.b64decode(request.header(SIGNATURE), validate=True)
        except (binascii.Error, ValueError):
            raise refused("the signature is no base64") from None
        signed = timestamp.encode(errors="replace") + request.body
        if not any(_verifies(key, signature, signed) for key in self.keys):
            raise refused("the signature is wrong")
        check_fresh(timestamp, now, MAX_AGE)
        events = body.parse(request.body)
        if not isinstance(events, list):
            raise malformed()
        if len(events) > MAX_EVENTS:
            raise Problem(TOO_LARGE, f"At most {MAX_EVENTS} events are taken.")
        return [event_of(part(each)) for each in events]


def event_of(event: Mapping[str, object]) -> ProviderEvent | None:
    """Return an event, None for one of another kind, such as an opened mail."""
    name = text(event.get("event"))
    kind = _KINDS.get(name)
    if kind is None:
        return None
    reason, category = text(event.get("reason")), text(event.get("bounce_classification"))
    reply_class = _CLASSES.get(category)
    if name == "dropped":
        category, reply_class = reason, _DROPS.get(reason, ReplyClass.UNDETERMINED)
    elif reply_class is None and text(event.get("type")) == "expired":
        category, reply_class = "expired", ReplyClass.EXPIRED
    return ProviderEvent(
        kind,
        message_id(event.get(OUR_ID)) or message_id(event.get("smtp-id")),
        mailbox(event.get("email")),
        moment(event.get("timestamp")),
        diagnostic=text(event.get("response")) or reason,
        status=text(event.get("status")),
        category=category,
        reply_class=reply_class,
        is_quoted=name != "dropped",
    )


def _verifies(key: EllipticCurvePublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True
