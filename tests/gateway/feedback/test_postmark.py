"""The webhooks of Postmark."""

import pytest

from services.gateway.api.problem import Problem
from services.gateway.feedback.events import report_of
from services.gateway.feedback.postmark import Postmark
from shared.contracts import ReplyClass, Report, ReportBounced
from tests.gateway.feedback.samples import (
    ANN,
    LOGIN,
    MAIL,
    MESSAGE_ID,
    NOW,
    POLICY,
    UNKNOWN_USER,
    Fields,
    encoded,
    postmark,
    postmark_bounce,
    postmark_delivery,
    request,
)

POSTMARK = Postmark(LOGIN)
COMPLAINT = postmark_bounce("SpamComplaint", RecordType="SpamComplaint", TypeCode=512)


def reported(record: Fields) -> Report | None:
    """Return the report of a record."""
    [event] = POSTMARK.read(postmark(record), NOW)
    return report_of(event, POSTMARK.source, MAIL, NOW) if event else None


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (postmark_delivery(), "report.delivered"),
        (postmark_bounce("HardBounce", f"smtp;{UNKNOWN_USER}"), "report.bounced"),
        (postmark_bounce("SoftBounce", "smtp;452 4.2.2 Mailbox full"), "report.bounced"),
        (postmark_bounce("Transient", "smtp;450 4.2.0 Greylisted"), "report.delayed"),
        (postmark_bounce("DnsError"), "report.delayed"),
        (COMPLAINT, "report.complained"),
        (postmark_bounce("AutoResponder"), None),
        (postmark_bounce("Something new"), None),
        ({"RecordType": "Open", "Recipient": ANN}, None),
        ({"RecordType": "SubscriptionChange", "SuppressSending": True}, None),
        ({}, None),
    ],
)
def test_each_record_is_read(record: Fields, kind: str | None) -> None:
    """Records of a mail's way are reports, the others nothing."""
    report = reported(record)

    assert (report and report.routing_key) == kind


@pytest.mark.parametrize(
    ("type_", "details", "reply_class"),
    [
        ("HardBounce", f"smtp;{UNKNOWN_USER}", ReplyClass.MAILBOX_UNKNOWN),
        ("HardBounce", f"smtp;{POLICY}", ReplyClass.POLICY),
        ("HardBounce", "", ReplyClass.MAILBOX_UNKNOWN),
        ("SoftBounce", "", ReplyClass.TEMPORARY),
        ("SpamNotification", "", ReplyClass.SPAM_BLOCK),
        ("DMARCPolicy", "", ReplyClass.AUTH_SENDER),
        ("ManuallyDeactivated", "550 5.1.1 User unknown", ReplyClass.UNDETERMINED),
    ],
)
def test_a_bounce_has_its_class(type_: str, details: str, reply_class: ReplyClass) -> None:
    """The server's reply counts before the type, except where Postmark has asked no server."""
    report = reported(postmark_bounce(type_, details))

    assert isinstance(report, ReportBounced)
    assert report.reply_class is reply_class


def test_a_mail_is_named_by_our_metadata() -> None:
    """MessageID is Postmark's own: the mail is known by the metadata of the sender."""
    [event] = POSTMARK.read(postmark(postmark_delivery()), NOW)
    [unnamed] = POSTMARK.read(postmark(postmark_delivery(Metadata={})), NOW)

    assert event is not None
    assert unnamed is not None
    assert (event.message_id, event.recipient) == (MESSAGE_ID, ANN)
    assert unnamed.message_id == ""


@pytest.mark.parametrize("login", ["postmark:wrong", "", "postmark", f"{LOGIN} "])
def test_another_login_is_refused(login: str) -> None:
    """Postmark signs nothing: the login in its URL is all that shows who asks."""
    with pytest.raises(Problem) as error:
        POSTMARK.read(postmark(postmark_delivery(), login), NOW)

    assert error.value.type.code == "unauthorized"
    assert error.value.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize("header", ["", "Basic", "Bearer x", "Basic \udcff"])
def test_a_request_without_a_login_is_refused(header: str) -> None:
    """Another scheme, and a header that is no text, are refused like a wrong password."""
    with pytest.raises(Problem) as error:
        POSTMARK.read(request(encoded(postmark_delivery()), Authorization=header), NOW)

    assert error.value.type.code == "unauthorized"
