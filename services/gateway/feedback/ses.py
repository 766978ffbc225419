"""Pure: the events of Amazon SES (docs: Contents of event data, of notifications, 2026-11)."""

from collections.abc import Callable, Mapping, Sequence

import orjson

from services.gateway.feedback.events import (
    ProviderEvent,
    items,
    mailbox,
    message_id,
    moment,
    part,
    text,
)
from shared.contracts import ReplyClass, ReportKind

_Object = Mapping[str, object]
# `bounceSubType`: the class where no reply says more.
CLASSES: Mapping[str, ReplyClass] = {
    "General": ReplyClass.UNDETERMINED,
    "NoEmail": ReplyClass.UNDETERMINED,  # the bounce named no address
    "Suppressed": ReplyClass.UNDETERMINED,
    "OnAccountSuppressionList": ReplyClass.UNDETERMINED,
    "OnTenantSuppressionList": ReplyClass.UNDETERMINED,
    "UnsubscribedRecipient": ReplyClass.UNDETERMINED,
    "EmailValidationSuppressed": ReplyClass.UNDETERMINED,
    "MailboxFull": ReplyClass.MAILBOX_FULL,
    "MessageTooLarge": ReplyClass.TOO_BIG,
    "ContentRejected": ReplyClass.CONTENT,
    "AttachmentRejected": ReplyClass.CONTENT,
    "CustomTimeoutExceeded": ReplyClass.EXPIRED,
}
# SES has refused these itself, for what happened to earlier mails. It writes 5.1.1 all the same.
SUPPRESSIONS = frozenset(
    {
        *("Suppressed", "OnAccountSuppressionList", "OnTenantSuppressionList"),
        *("UnsubscribedRecipient", "EmailValidationSuppressed"),
    }
)


def read_events(message: str) -> Sequence[ProviderEvent | None]:
    """Return the events of a message of SES, None for one of another kind.

    A mail that was opened is one, and the text by which SES tries a new topic is no JSON at all.
    """
    try:
        content = part(orjson.loads(message))
    except ValueError:
        return [None]
    named = text(content.get("eventType")) or text(content.get("notificationType"))
    if named not in _READERS:
        return [None]
    field, read = _READERS[named]
    mail = part(content, "mail")
    return read(mail, part(content, field))


def _bounced(mail: _Object, bounce: _Object) -> Sequence[ProviderEvent | None]:
    category = text(bounce.get("bounceSubType"))
    is_soft = text(bounce.get("bounceType")) == "Transient" and category == "General"
    return [
        # An automatic reply is such a bounce too, and has no DSN: the mail has arrived.
        None
        if is_soft and text(each.get("action")).lower() != "failed"
        else ProviderEvent(
            ReportKind.BOUNCED,
            _message_id(mail),
            mailbox(each.get("emailAddress")),
            moment(bounce.get("timestamp")),
            diagnostic=text(each.get("diagnosticCode")),
            status=text(each.get("status")),
            category=category,
            reply_class=CLASSES.get(category),
            is_quoted=category not in SUPPRESSIONS,
        )
        for each in map(part, items(bounce.get("bouncedRecipients")))
    ]


def _complained(mail: _Object, complaint: _Object) -> Sequence[ProviderEvent | None]:
    """Return the complaint of a reader.

    Several are those of one provider to whom the mail went, and it did not say which of them
    complained: none is blamed.
    """
    recipients = [part(each) for each in items(complaint.get("complainedRecipients"))]
    if len(recipients) != 1:
        return [None]
    category = text(complaint.get("complaintSubType"))
    # A mail that was not sent, for a complaint about an earlier one, is no complaint of its own.
    kind = ReportKind.BOUNCED if category in SUPPRESSIONS else ReportKind.COMPLAINED
    return [
        ProviderEvent(
            kind,
            _message_id(mail),
            mailbox(recipients[0].get("emailAddress")),
            moment(complaint.get("arrivalDate")) or moment(complaint.get("timestamp")),
            category=category,
            reply_class=CLASSES.get(category),
            feedback_type=text(complaint.get("complaintFeedbackType")).lower() or "abuse",
        )
    ]


def _delivered(mail: _Object, delivery: _Object) -> Sequence[ProviderEvent | None]:
    return [
        ProviderEvent(
            ReportKind.DELIVERED,
            _message_id(mail),
            mailbox(each),
            moment(delivery.get("timestamp")),
            diagnostic=text(delivery.get("smtpResponse")),
        )
        for each in items(delivery.get("recipients"))
    ]


def _delayed(mail: _Object, delay: _Object) -> Sequence[ProviderEvent | None]:
    return [
        ProviderEvent(
            ReportKind.DELAYED,
            _message_id(mail),
            mailbox(each.get("emailAddress")),
            moment(delay.get("timestamp")),
            diagnostic=text(each.get("diagnosticCode")),
            status=text(each.get("status")),
        )
        for each in map(part, items(delay.get("delayedRecipients")))
    ]


def _rejected(mail: _Object, reject: _Object) -> Sequence[ProviderEvent | None]:
    """Return the bounces of a mail in which SES has found a virus: it was sent to nobody."""
    return [
        ProviderEvent(
            ReportKind.BOUNCED,
            _message_id(mail),
            mailbox(each),
            diagnostic=text(reject.get("reason")),
            category="Reject",
            reply_class=ReplyClass.CONTENT,
            is_quoted=False,
        )
        for each in items(mail.get("destination"))
    ]


def _message_id(mail: _Object) -> str:
    """Return the Message-ID that the mail came with: SES sends it on with one of its own."""
    headers = (part(each) for each in items(mail.get("headers")))
    named = (each for each in headers if text(each.get("name")).lower() == "message-id")
    given = next((message_id(each.get("value")) for each in named), "")
    return given or message_id(part(mail, "commonHeaders").get("messageId"))


# By the type of an event: the name of its object, and its reader.
_READERS: Mapping[str, tuple[str, Callable[[_Object, _Object], Sequence[ProviderEvent | None]]]] = {
    "Bounce": ("bounce", _bounced),
    "Complaint": ("complaint", _complained),
    "Delivery": ("delivery", _delivered),
    "DeliveryDelay": ("deliveryDelay", _delayed),
    "Reject": ("reject", _rejected),
}
