"""The events of Amazon SES."""

import json

import pytest

from services.gateway.feedback.events import report_of
from services.gateway.feedback.ses import read_events
from shared.contracts import ReplyClass, ReportBounced, ReportSource
from tests.gateway.feedback.samples import (
    ANN,
    AT,
    MAIL,
    MESSAGE_ID,
    NOW,
    POLICY,
    UNKNOWN_USER,
    Fields,
    ses_bounce,
    ses_event,
)

DELIVERY: Fields = {
    "timestamp": AT,
    "processingTimeMillis": 546,
    "recipients": [ANN],
    "smtpResponse": "250 ok: Message 64111812 accepted",
    "reportingMTA": "a8-70.smtp-out.amazonses.com",
}
DELAY: Fields = {
    "timestamp": AT,
    "delayType": "MailboxFull",
    "expirationTime": AT,
    "delayedRecipients": [
        {"emailAddress": ANN, "status": "4.2.2", "diagnosticCode": "smtp; 452 4.2.2 Full"}
    ],
}
BOB = "bob@x.example"


def complaint(*recipients: str, **more: object) -> Fields:
    """Return a complaint."""
    content: Fields = {
        "complainedRecipients": [{"emailAddress": each} for each in recipients],
        "timestamp": AT,
        "feedbackId": "0102019a2b3c4d5e-77777777-000000",
        "complaintSubType": None,
        "complaintFeedbackType": "abuse",
        "arrivalDate": AT,
        **more,
    }
    return ses_event("Complaint", "complaint", content)


def kinds(event: object) -> list[str | None]:
    """Return the kinds of the reports about Ann and others."""
    read = read_events(json.dumps(event))
    reports = [report_of(each, ReportSource.SES, MAIL, NOW) if each else None for each in read]
    return [each.kind.value if each else None for each in reports]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (ses_event("Delivery", "delivery", DELIVERY), ["delivered"]),
        (ses_event("DeliveryDelay", "deliveryDelay", DELAY), ["delayed"]),
        (ses_bounce("Permanent", "General", action="failed"), ["bounced"]),
        (ses_bounce("Transient", "MailboxFull"), ["bounced"]),
        (ses_bounce("Transient", "General", action="failed", status="4.4.7"), ["bounced"]),
        (ses_bounce("Transient", "General"), [None]),
        (ses_event("Reject", "reject", {"reason": "Bad content"}), ["bounced"]),
        (complaint(ANN), ["complained"]),
        (complaint(ANN, complaintFeedbackType="not-spam"), [None]),
        (complaint(ANN, complaintSubType="OnAccountSuppressionList"), ["bounced"]),
        (complaint(ANN, BOB), [None]),
        (complaint(), [None]),
        (ses_event("Open", "open", {"ipAddress": "192.0.2.1"}), [None]),
        (ses_event("Something new", "new", {}), [None]),
        ({}, [None]),
        ([], [None]),
        ("Successfully validated SNS topic for Amazon SES event publishing.", [None]),
    ],
)
def test_each_event_is_read(event: object, expected: list[str | None]) -> None:
    """Events of a mail's way are reports; an automatic reply and a guessed complaint are none."""
    assert kinds(event) == expected


def test_text_that_is_no_json_is_ignored() -> None:
    """SES tries a new topic by a sentence."""
    assert read_events("Successfully validated SNS topic") == [None]
    assert read_events("[" * 100_000) == [None]


def test_a_notification_is_read_as_an_event() -> None:
    """Without a configuration set the type has another name."""
    event = ses_event("Delivery", "delivery", DELIVERY)
    event["notificationType"] = event.pop("eventType")

    assert kinds(event) == ["delivered"]


def test_each_recipient_has_its_event() -> None:
    """One message may be about several recipients."""
    event = ses_event("Delivery", "delivery", {**DELIVERY, "recipients": [ANN, BOB]})

    found = [(each.recipient, each.message_id) for each in read_events(json.dumps(event)) if each]

    assert found == [(ANN, MESSAGE_ID), (BOB, MESSAGE_ID)]


@pytest.mark.parametrize(
    ("kind", "category", "recipient", "reply_class"),
    [
        ("Permanent", "General", {"diagnosticCode": f"smtp; {UNKNOWN_USER}"}, "mailbox_unknown"),
        ("Permanent", "General", {"status": "5.1.1"}, "mailbox_unknown"),
        ("Permanent", "General", {"diagnosticCode": f"smtp; {POLICY}"}, "policy"),
        ("Permanent", "General", {}, "undetermined"),
        ("Permanent", "NoEmail", {}, "undetermined"),
        (
            "Permanent",
            "OnAccountSuppressionList",
            {"status": "5.1.1", "diagnosticCode": "Amazon SES did not send the message"},
            "undetermined",
        ),
        ("Transient", "MailboxFull", {}, "mailbox_full"),
        ("Transient", "MessageTooLarge", {}, "too_big"),
        ("Undetermined", "Undetermined", {}, "undetermined"),
    ],
)
def test_a_bounce_has_its_class(
    kind: str, category: str, recipient: Fields, reply_class: str
) -> None:
    """The server's reply counts before the subtype, except where SES has asked no server."""
    [event] = read_events(json.dumps(ses_bounce(kind, category, **recipient)))

    assert event is not None
    report = report_of(event, ReportSource.SES, MAIL, NOW)
    assert isinstance(report, ReportBounced)
    assert report.reply_class is ReplyClass(reply_class)


def test_a_mail_without_its_headers_has_no_name() -> None:
    """SES sends a mail on with a Message-ID of its own, which says nothing to us."""
    event = ses_event("Delivery", "delivery", DELIVERY, headers=[], commonHeaders={})

    [found] = read_events(json.dumps(event))

    assert found is not None
    assert found.message_id == ""
