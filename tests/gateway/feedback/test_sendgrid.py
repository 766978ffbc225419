"""The signed event webhook of SendGrid."""

import pytest

from services.gateway.api.problem import Problem
from services.gateway.feedback.events import ProviderRequest, report_of
from services.gateway.feedback.sendgrid import MAX_EVENTS, SendGrid, read_keys
from shared.contracts import ReplyClass, Report, ReportBounced
from tests.gateway.feedback.samples import (
    ANN,
    MAIL,
    MESSAGE_ID,
    NOW,
    OTHER_SENDGRID_KEY,
    POLICY,
    SECONDS,
    SENDGRID_KEY,
    UNKNOWN_USER,
    Fields,
    request,
    sendgrid,
    sendgrid_event,
    sendgrid_key,
)

SENDGRID = SendGrid(read_keys(sendgrid_key()))


def reported(*events: object) -> list[Report | None]:
    """Return the reports of the events of one request."""
    read = SENDGRID.read(sendgrid(*events), NOW)
    return [report_of(each, SENDGRID.source, MAIL, NOW) if each else None for each in read]


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (sendgrid_event("delivered", response="250 2.0.0 OK"), "report.delivered"),
        (sendgrid_event("deferred", response="450 4.2.0 wait", attempt="3"), "report.delayed"),
        (sendgrid_event("bounce", type="bounce", reason=UNKNOWN_USER), "report.bounced"),
        (sendgrid_event("dropped", reason="Bounced Address"), "report.bounced"),
        (sendgrid_event("spamreport"), "report.complained"),
        (sendgrid_event("processed"), None),
        (sendgrid_event("open", useragent="Mail/1.0"), None),
        (sendgrid_event("group_unsubscribe"), None),
        (sendgrid_event("something new"), None),
        ("no object", None),
    ],
)
def test_each_event_is_read(event: object, kind: str | None) -> None:
    """Events of a mail's way are reports, the others nothing."""
    [report] = reported(event)

    assert (report and report.routing_key) == kind


@pytest.mark.parametrize(
    ("fields", "reply_class"),
    [
        ({"reason": UNKNOWN_USER, "status": "5.1.1"}, ReplyClass.MAILBOX_UNKNOWN),
        ({"reason": POLICY, "bounce_classification": "Invalid Address"}, ReplyClass.POLICY),
        ({"bounce_classification": "Invalid Address"}, ReplyClass.MAILBOX_UNKNOWN),
        ({"bounce_classification": "Reputation", "type": "blocked"}, ReplyClass.SPAM_BLOCK),
        ({"type": "expired"}, ReplyClass.EXPIRED),
        ({"type": "bounce"}, ReplyClass.UNDETERMINED),
    ],
)
def test_a_bounce_has_its_class(fields: Fields, reply_class: ReplyClass) -> None:
    """The server's reply counts before SendGrid's classification."""
    [report] = reported(sendgrid_event("bounce", **fields))

    assert isinstance(report, ReportBounced)
    assert report.reply_class is reply_class


@pytest.mark.parametrize("reason", ["Bounced Address", "Unsubscribed Address", "550 5.1.1 unknown"])
def test_a_dropped_mail_says_nothing_of_a_mailbox(reason: str) -> None:
    """SendGrid drops a mail for what happened to an earlier one: no server was asked."""
    [report] = reported(sendgrid_event("dropped", reason=reason))

    assert isinstance(report, ReportBounced)
    assert report.reply_class is ReplyClass.UNDETERMINED


def test_a_mail_is_named_by_our_argument_or_its_message_id() -> None:
    """The unique argument of the sender counts before smtp-id, which SendGrid may have made."""
    other = sendgrid_event("delivered", **{"smtp-id": "<made@ismtpd.example>"})
    named, made = SENDGRID.read(sendgrid({**other, "postrider": MESSAGE_ID}, other), NOW)

    assert named is not None
    assert made is not None
    assert (named.message_id, named.recipient) == (MESSAGE_ID, ANN)
    assert made.message_id == "<made@ismtpd.example>"


def refused(asked: ProviderRequest) -> str:
    """Return the code of a refusal."""
    with pytest.raises(Problem) as error:
        SENDGRID.read(asked, NOW)
    return error.value.type.code


def test_only_signed_requests_are_read() -> None:
    """Another key, another body, another time and no signature are refused."""
    right = sendgrid(sendgrid_event("delivered"))
    unsigned = request(right.body)
    changed = ProviderRequest(right.headers, right.body.replace(b"ann@", b"bob@"))

    assert len(SENDGRID.read(right, NOW)) == 1
    assert refused(unsigned) == refused(changed) == "invalid-signature"
    assert refused(sendgrid(key=OTHER_SENDGRID_KEY)) == "invalid-signature"
    assert refused(sendgrid(seconds=SECONDS + 1000)) == "invalid-signature"
    assert refused(sendgrid(seconds=SECONDS - 100_000)) == "invalid-signature"


def test_a_key_can_be_replaced() -> None:
    """While there are two keys, either verifies."""
    both = SendGrid(read_keys(f"{sendgrid_key(OTHER_SENDGRID_KEY)}, {sendgrid_key()}"))

    for key in (SENDGRID_KEY, OTHER_SENDGRID_KEY):
        assert both.read(sendgrid(sendgrid_event("open"), key=key), NOW) == [None]


@pytest.mark.parametrize("text", ["", "no key", "AAAA", "whsec_AAAA"])
def test_a_wrong_key_is_a_mistake_of_the_settings(text: str) -> None:
    """A key that cannot be read is found at the start."""
    with pytest.raises(ValueError, match="verification key"):
        read_keys(text)


def test_a_signed_body_of_another_form_is_malformed() -> None:
    """A body that is no list, or has too many events, is refused."""
    single = sendgrid_event("open")
    body = b"{}"
    right = sendgrid(single)
    assert refused(ProviderRequest(right.headers, body)) == "invalid-signature"
    assert refused(sendgrid(*[{}] * (MAX_EVENTS + 1))) == "too-large"
    assert SENDGRID.read(sendgrid(), NOW) == []
