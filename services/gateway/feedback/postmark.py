"""Pure: the webhooks of Postmark (docs: Bounce, Delivery and Spam complaint webhook, 2026-11)."""

import base64
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from services.gateway.api import body
from services.gateway.api.problem import UNAUTHORIZED, Problem
from services.gateway.feedback.events import (
    ProviderEvent,
    ProviderRequest,
    mailbox,
    message_id,
    moment,
    part,
    text,
)
from shared.contracts import ReplyClass, ReportKind, ReportSource

OUR_ID = "postrider"  # the metadata that the sender adds, and Postmark returns
_CHALLENGE = 'Basic realm="postrider", charset="UTF-8"'  # RFC 7617 2
# `Type` of a bounce: its kind, and its class where `Details` quotes no reply. The types that are
# not here are no bounces: automatic replies, changed addresses, subscriptions.
_TYPES: Mapping[str, tuple[ReportKind, ReplyClass]] = {
    "HardBounce": (ReportKind.BOUNCED, ReplyClass.MAILBOX_UNKNOWN),
    "SoftBounce": (ReportKind.BOUNCED, ReplyClass.TEMPORARY),
    "Blocked": (ReportKind.BOUNCED, ReplyClass.SPAM_BLOCK),
    "SpamNotification": (ReportKind.BOUNCED, ReplyClass.SPAM_BLOCK),
    "VirusNotification": (ReportKind.BOUNCED, ReplyClass.CONTENT),
    "DMARCPolicy": (ReportKind.BOUNCED, ReplyClass.AUTH_SENDER),
    "BadEmailAddress": (ReportKind.BOUNCED, ReplyClass.PROTOCOL),
    "SMTPApiError": (ReportKind.BOUNCED, ReplyClass.OUR_CONFIG),
    # Postmark has refused these itself, for what happened to earlier mails.
    "ManuallyDeactivated": (ReportKind.BOUNCED, ReplyClass.UNDETERMINED),
    "Unconfirmed": (ReportKind.BOUNCED, ReplyClass.UNDETERMINED),
    "Unknown": (ReportKind.BOUNCED, ReplyClass.UNDETERMINED),
    "Transient": (ReportKind.DELAYED, ReplyClass.TEMPORARY),
    "DnsError": (ReportKind.DELAYED, ReplyClass.DOMAIN),
    "SpamComplaint": (ReportKind.COMPLAINED, ReplyClass.UNDETERMINED),
}
_OF_POSTMARK = frozenset({"ManuallyDeactivated", "Unconfirmed", "BadEmailAddress", "SMTPApiError"})


@dataclass(frozen=True, slots=True)
class Postmark:
    """Reads the requests that know the login `user:password`, since Postmark signs none."""

    source: ClassVar[ReportSource] = ReportSource.POSTMARK

    login: str = field(repr=False)

    def read(self, request: ProviderRequest, now: datetime) -> Sequence[ProviderEvent | None]:
        """Return the only event of a request. Raises Problem."""
        del now  # no time is signed
        scheme, _, token = request.header("Authorization").partition(" ")
        right = base64.b64encode(self.login.encode())
        known = hmac.compare_digest(token.strip().encode(errors="replace"), right)
        if scheme.lower() != "basic" or not known:
            raise Problem(
                UNAUTHORIZED, headers={"WWW-Authenticate": _CHALLENGE}, reason="another login"
            )
        return [event_of(body.parse_object(request.body))]


def event_of(record: Mapping[str, object]) -> ProviderEvent | None:
    """Return the event of a record, None for one of another kind, such as an opened mail."""
    kind, reply_class, type_ = ReportKind.DELIVERED, ReplyClass.UNDETERMINED, ""
    if text(record.get("RecordType")) in {"Bounce", "SpamComplaint"}:
        type_ = text(record.get("Type"))
        if type_ not in _TYPES:
            return None
        kind, reply_class = _TYPES[type_]
    elif text(record.get("RecordType")) != "Delivery":
        return None
    details = text(record.get("Details"))
    return ProviderEvent(
        kind,
        message_id(part(record, "Metadata").get(OUR_ID)),
        mailbox(record.get("Email")) or mailbox(record.get("Recipient")),
        moment(record.get("BouncedAt")) or moment(record.get("DeliveredAt")),
        diagnostic=details
        or (text(record.get("Description")) if kind is ReportKind.BOUNCED else ""),
        category=type_,
        reply_class=reply_class,
        is_quoted=bool(details) and type_ not in _OF_POSTMARK,
    )
