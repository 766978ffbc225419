"""The webhooks of Mailgun."""

import pytest

from services.gateway.api.problem import Problem
from services.gateway.feedback.events import ProviderRequest, report_of
from services.gateway.feedback.mailgun import Mailgun
from shared.contracts import ReplyClass, Report, ReportBounced
from tests.gateway.feedback.samples import (
    ANN,
    MAIL,
    MAILGUN_KEY,
    MESSAGE_ID,
    NOW,
    POLICY,
    SECONDS,
    UNKNOWN_USER,
    Fields,
    encoded,
    mailgun,
    mailgun_event,
    mailgun_status,
    request,
)

MAILGUN = Mailgun(["another key of Mailgun", MAILGUN_KEY])


def failed(severity: str, reason: str, status: Fields) -> Fields:
    """Return a failure."""
    return mailgun_event("failed", severity=severity, reason=reason, **{"delivery-status": status})


def split(reply: str) -> Fields:
    """Return the status of a reply, whose code is a field of its own."""
    code, _, text = reply.partition(" ")
    return mailgun_status(int(code), text)


def reported(event: object) -> Report | None:
    """Return the report of an event."""
    [read] = MAILGUN.read(mailgun(event), NOW)
    return report_of(read, MAILGUN.source, MAIL, NOW) if read else None


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (mailgun_event("delivered", **{"delivery-status": mailgun_status(250, "OK")}), "delivered"),
        (failed("permanent", "bounce", split(UNKNOWN_USER)), "bounced"),
        (failed("temporary", "greylisted", split("450 4.2.0 wait")), "delayed"),
        (mailgun_event("rejected", reject={"reason": "Sandbox"}, recipient=None), "bounced"),
        (mailgun_event("complained"), "complained"),
        (mailgun_event("opened"), None),
        (mailgun_event("something new"), None),
        ({}, None),
    ],
)
def test_each_event_is_read(event: Fields, kind: str | None) -> None:
    """Events of a mail's way are reports, the others nothing."""
    report = reported(event)

    assert (report and report.routing_key) == (kind and f"report.{kind}")


@pytest.mark.parametrize(
    ("reason", "status", "reply_class"),
    [
        ("bounce", split(UNKNOWN_USER), ReplyClass.MAILBOX_UNKNOWN),
        ("bounce", split(POLICY), ReplyClass.POLICY),
        ("old", mailgun_status(602, "Too old"), ReplyClass.EXPIRED),
        ("espblock", mailgun_status(0, ""), ReplyClass.SPAM_BLOCK),
        (
            "suppress-bounce",
            mailgun_status(605, "5.1.1 Not delivering to previously bounced address"),
            ReplyClass.UNDETERMINED,
        ),
    ],
)
def test_a_bounce_has_its_class(reason: str, status: Fields, reply_class: ReplyClass) -> None:
    """The server's reply counts before the reason, except where Mailgun has asked no server."""
    report = reported(failed("permanent", reason, status))

    assert isinstance(report, ReportBounced)
    assert report.reply_class is reply_class
    assert report.reporter == "mx.x.example"


def test_a_mail_is_named_by_its_message_id() -> None:
    """Mailgun keeps the Message-ID of a mail."""
    [event] = MAILGUN.read(mailgun(mailgun_event("delivered")), NOW)

    assert event is not None
    assert (event.message_id, event.recipient) == (MESSAGE_ID, ANN)


@pytest.mark.parametrize(
    "asked",
    [
        mailgun(mailgun_event("delivered"), key="a third key of Mailgun"),
        mailgun(mailgun_event("delivered"), seconds=SECONDS + 1000),
        mailgun(mailgun_event("delivered"), seconds=SECONDS - 40_000),
        request(encoded({"event-data": mailgun_event("delivered")})),
        request(encoded({"signature": {"timestamp": "1", "token": "t", "signature": "\ud800"}})),
    ],
    ids=["key", "future", "old", "none", "no text"],
)
def test_only_signed_requests_are_read(asked: ProviderRequest) -> None:
    """Another key, an old signature and none are refused; so is a text that is no UTF-8."""
    with pytest.raises(Problem) as error:
        MAILGUN.read(asked, NOW)

    assert error.value.type.code in {"invalid-signature", "malformed"}


def test_the_last_repeat_has_the_first_signature() -> None:
    """Mailgun tries again for 8 hours, and a report must not be lost to an outage of minutes."""
    asked = mailgun(mailgun_event("delivered"), seconds=SECONDS - 8 * 3600)

    assert len(MAILGUN.read(asked, NOW)) == 1
