"""Pure: the webhooks of Resend, signed as Standard Webhooks 1.0 says (docs: Event types, 2026-11).

The headers have their older names, those of Svix.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar

from services.gateway.api import body
from services.gateway.feedback import ses
from services.gateway.feedback.events import (
    ProviderEvent,
    ProviderRequest,
    check_fresh,
    items,
    mailbox,
    malformed,
    message_id,
    moment,
    part,
    refused,
    text,
)
from shared.contracts import ReplyClass, ReportKind, ReportSource

MAX_AGE = timedelta(minutes=5)  # each try is signed anew (Standard Webhooks 1.0)
OUR_ID = "x-postrider-id"  # the header that the sender adds, and Resend returns
_PREFIX = "whsec_"
MIN_SECRET_BYTES = 16
_WORDS = ("message", "reason")  # the fields of its own words
_KINDS = {
    "email.delivered": ReportKind.DELIVERED,
    "email.delivery_delayed": ReportKind.DELAYED,
    "email.bounced": ReportKind.BOUNCED,
    "email.failed": ReportKind.BOUNCED,
    "email.suppressed": ReportKind.BOUNCED,
    "email.complained": ReportKind.COMPLAINED,
}


def read_secrets(texts: str) -> Sequence[bytes]:
    """Return the secrets of a setting, with commas between them. Raises ValueError."""
    secrets = list[bytes]()
    for each in texts.split(","):
        try:
            secret = base64.b64decode(each.strip().removeprefix(_PREFIX), validate=True)
        except ValueError:
            secret = b""
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"must be the signing secret as Resend shows it: {_PREFIX}…")
        secrets.append(secret)
    return secrets


@dataclass(frozen=True, slots=True)
class Resend:
    """Reads the requests that Resend has signed with one of the secrets."""

    source: ClassVar[ReportSource] = ReportSource.RESEND

    secrets: Sequence[bytes] = field(repr=False)

    def read(self, request: ProviderRequest, now: datetime) -> Sequence[ProviderEvent | None]:
        """Return the only event of a request. Raises Problem."""
        id_, seconds, given = (
            request.header(f"svix-{name}") or request.header(f"webhook-{name}")
            for name in ("id", "timestamp", "signature")
        )
        signed = f"{id_}.{seconds}.".encode(errors="replace") + request.body
        digests = (hmac.digest(each, signed, hashlib.sha256) for each in self.secrets)
        right = [b"v1," + base64.b64encode(each) for each in digests]
        named = given.encode(errors="replace").split(b" ")
        if not any(hmac.compare_digest(each, one) for each in right for one in named):
            raise refused("the signature is wrong")
        check_fresh(seconds, now, MAX_AGE)
        content = body.parse_object(request.body)
        if not isinstance(content.get("data"), dict):
            raise malformed()
        return [event_of(content)]


def event_of(content: Mapping[str, object]) -> ProviderEvent | None:
    """Return an event, None for one of another kind, such as an opened mail."""
    kind, data = _KINDS.get(text(content.get("type"))), part(content, "data")
    if kind is None:
        return None
    bounce = part(data, "bounce")
    codes = bounce.get("diagnosticCode")
    quoted = text(codes) or next(filter(None, map(text, items(codes))), "")
    category = text(bounce.get("subType"))
    words = (bounce, part(data, "failed"), part(data, "suppressed"))
    said = next((text(each.get(name)) for each in words for name in _WORDS if each.get(name)), "")
    recipients = items(data.get("to"))
    return ProviderEvent(
        kind,
        _message_id(data),
        # One of several is not named: the ledger knows whether the mail has only one.
        mailbox(recipients[0]) if len(recipients) == 1 else "",
        moment(content.get("created_at")),
        diagnostic=quoted or said,
        category=category,
        reply_class=ses.CLASSES.get(category, ReplyClass.UNDETERMINED),
        is_quoted=bool(quoted) and category not in ses.SUPPRESSIONS,
    )


def _message_id(data: Mapping[str, object]) -> str:
    """Return our Message-ID, by the header that the sender adds or by the mail's own."""
    headers = {
        text(each.get("name")).lower(): message_id(each.get("value"))
        for each in map(part, items(data.get("headers")))
    }
    ours = headers.get(OUR_ID) or headers.get("message-id")
    return ours or message_id(data.get("message_id"))
