"""Pure: the webhooks of Mailgun (docs: Webhooks, Events, 2026-11)."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar

from services.gateway.api import body
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

# It tries again for 8 hours with the first signature, which covers neither the body nor the try.
MAX_AGE = timedelta(hours=8, minutes=15)
MAX_TOKEN_CHARS = 100  # it has 50
_OWN_CODES = frozenset({498, 499})  # no mail server was found, or none answered
_KINDS = {
    "delivered": ReportKind.DELIVERED,
    "failed": ReportKind.BOUNCED,
    "rejected": ReportKind.BOUNCED,
    "complained": ReportKind.COMPLAINED,
}
# `reason` of a failure, where no reply says more. The first three are about earlier mails: this one
# met no server.
_REASONS: Mapping[str, ReplyClass] = {
    "suppress-bounce": ReplyClass.UNDETERMINED,
    "suppress-complaint": ReplyClass.UNDETERMINED,
    "suppress-unsubscribe": ReplyClass.UNDETERMINED,
    "espblock": ReplyClass.SPAM_BLOCK,
    "blacklisted": ReplyClass.SPAM_BLOCK,
    "greylisted": ReplyClass.TEMPORARY,
    "old": ReplyClass.EXPIRED,
}


@dataclass(frozen=True, slots=True)
class Mailgun:
    """Reads the requests that Mailgun has signed with one of the keys."""

    source: ClassVar[ReportSource] = ReportSource.MAILGUN

    keys: Sequence[str] = field(repr=False)

    def read(self, request: ProviderRequest, now: datetime) -> Sequence[ProviderEvent | None]:
        """Return the only event of a request. Raises Problem."""
        content = body.parse_object(request.body)
        signature = part(content, "signature")
        timestamp, token = signature.get("timestamp"), text(signature.get("token"))
        seconds = str(timestamp) if isinstance(timestamp, int) else text(timestamp)
        if not token or len(token) > MAX_TOKEN_CHARS:
            raise refused("no signature")
        if not self._verifies(seconds + token, text(signature.get("signature"))):
            raise refused("the signature is wrong")
        check_fresh(seconds, now, MAX_AGE)
        if not isinstance(content.get("event-data"), dict):
            raise malformed()
        return [event_of(part(content, "event-data"))]

    def _verifies(self, signed: str, digest: str) -> bool:
        content, given = signed.encode(errors="replace"), digest.encode(errors="replace")
        right = (hmac.new(key.encode(), content, hashlib.sha256).hexdigest() for key in self.keys)
        return any(hmac.compare_digest(each.encode(), given) for each in right)


def event_of(event: Mapping[str, object]) -> ProviderEvent | None:
    """Return an event, None for one of another kind, such as an opened mail."""
    kind = _KINDS.get(text(event.get("event")))
    if kind is None:
        return None
    if kind is ReportKind.BOUNCED and text(event.get("severity")) == "temporary":
        kind = ReportKind.DELAYED
    reason = text(event.get("reason"))
    status = part(event, "delivery-status")
    diagnostic, is_reply = _diagnostic(status)
    return ProviderEvent(
        kind,
        message_id(part(event, "message", "headers").get("message-id")),
        mailbox(event.get("recipient")),
        moment(event.get("timestamp")),
        diagnostic=diagnostic or text(part(event, "reject").get("reason")),
        status=text(status.get("enhanced-code")),
        host=text(status.get("mx-host")),
        category=reason,
        reply_class=_REASONS.get(reason),
        is_quoted=is_reply and not reason.startswith("suppress-"),
    )


def _diagnostic(status: Mapping[str, object]) -> tuple[str, bool]:
    """Return a reply with its code, and whether a server has made it; else Mailgun's words."""
    code, words = status.get("code"), text(status.get("message"))
    words = words or text(status.get("description"))
    if isinstance(code, int) and 200 <= code < 600 and code not in _OWN_CODES:  # noqa: PLR2004
        return f"{code} {words}", True
    return words, code in _OWN_CODES
