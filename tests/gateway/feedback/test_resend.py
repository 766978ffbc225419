"""The webhooks of Resend."""

import json
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from services.gateway.api.problem import Problem
from services.gateway.feedback.events import ProviderRequest, report_of
from services.gateway.feedback.resend import Resend, read_secrets
from shared.contracts import ReplyClass, Report, ReportBounced
from tests.gateway.feedback.samples import (
    ANN,
    MAIL,
    MESSAGE_ID,
    NOW,
    POLICY,
    RESEND_SECRET,
    SECONDS,
    UNKNOWN_USER,
    Fields,
    request,
    resend,
    resend_event,
)

RESEND = Resend(read_secrets(RESEND_SECRET))
TO_TWO = resend_event("email.delivered", to=[ANN, "bob@x.example"])


def bounce(category: str, kind: str = "Permanent", **more: object) -> Fields:
    """Return a bounce."""
    words = "The recipient's server has refused the mail."
    named = {"type": kind, "subType": category, "message": words, **more}
    return resend_event("email.bounced", bounce=named)


def reported(content: object) -> Report | None:
    """Return the report of an event."""
    [event] = RESEND.read(resend(content), NOW)
    return report_of(event, RESEND.source, MAIL, NOW) if event else None


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (resend_event("email.delivered"), "delivered"),
        (resend_event("email.delivery_delayed"), "delayed"),
        (bounce("General"), "bounced"),
        (bounce("MailboxFull", "Transient"), "bounced"),
        (resend_event("email.failed", failed={"reason": "reached_daily_quota"}), "bounced"),
        (resend_event("email.complained"), "complained"),
        (resend_event("email.opened"), None),
        (resend_event("contact.created"), None),
        (resend_event("something new"), None),
    ],
)
def test_each_event_is_read(content: Fields, kind: str | None) -> None:
    """Events of a mail's way are reports, the others nothing."""
    report = reported(content)

    assert (report and report.routing_key) == (kind and f"report.{kind}")


@pytest.mark.parametrize(
    ("content", "reply_class"),
    [
        (bounce("General", diagnosticCode=[f"smtp; {UNKNOWN_USER}"]), ReplyClass.MAILBOX_UNKNOWN),
        (bounce("General", diagnosticCode=f"smtp; {POLICY}"), ReplyClass.POLICY),
        (bounce("General"), ReplyClass.UNDETERMINED),
        (bounce("MailboxFull", "Transient"), ReplyClass.MAILBOX_FULL),
        (bounce("Suppressed", diagnosticCode=[UNKNOWN_USER]), ReplyClass.UNDETERMINED),
    ],
)
def test_a_bounce_has_its_class(content: Fields, reply_class: ReplyClass) -> None:
    """The server's reply counts before the subtype; Resend's own words are no reply."""
    report = reported(content)

    assert isinstance(report, ReportBounced)
    assert report.reply_class is reply_class


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (resend_event("email.delivered"), (MESSAGE_ID, ANN)),
        (TO_TWO, (MESSAGE_ID, "")),
        (resend_event("email.delivered", to=[f"Ann <{ANN}>"]), (MESSAGE_ID, ANN)),
        (
            resend_event(
                "email.delivered",
                message_id="<made@resend.example>",
                headers=[{"name": "Message-Id", "value": MESSAGE_ID}],
            ),
            (MESSAGE_ID, ANN),
        ),
    ],
)
def test_a_mail_is_named_by_its_message_id(content: Fields, named: tuple[str, str]) -> None:
    """Of several recipients Resend does not say which one it means."""
    [event] = RESEND.read(resend(content), NOW)

    assert event is not None
    assert (event.message_id, event.recipient) == named


def test_the_reference_library_signs_as_we_verify() -> None:
    """A request that the library of Standard Webhooks signs is read, with either header names."""
    body = json.dumps(resend_event("email.delivered"))
    signature = Webhook(RESEND_SECRET).sign("msg_1", datetime.fromtimestamp(SECONDS, UTC), body)
    for prefix in ("svix", "webhook"):
        named = {"id": "msg_1", "timestamp": str(SECONDS), "signature": f"v1,AAAA {signature}"}
        headers = {f"{prefix}_{name}": value for name, value in named.items()}
        assert len(RESEND.read(request(body.encode(), **headers), NOW)) == 1


@pytest.mark.parametrize(
    "asked",
    [
        resend(TO_TWO, key=b"another key of Resend"),
        resend(TO_TWO, seconds=SECONDS + 1000),
        resend(TO_TWO, seconds=SECONDS - 300),
        ProviderRequest(resend(TO_TWO).headers, b"{}"),
        request(b"{}"),
        request(b"{}", svix_id="\udcff", svix_timestamp="\udcff", svix_signature="v1,\udcff"),
    ],
    ids=["key", "future", "old", "body", "none", "no text"],
)
def test_only_signed_requests_are_read(asked: ProviderRequest) -> None:
    """Another key, another body and a time outside five minutes are refused."""
    with pytest.raises(Problem) as error:
        RESEND.read(asked, NOW)

    assert error.value.type.code == "invalid-signature"


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_AAAA", "whsec_***"])
def test_a_wrong_secret_is_a_mistake_of_the_settings(text: str) -> None:
    """A secret that is too short, or no base64, is found at the start."""
    with pytest.raises(ValueError, match="signing secret"):
        read_secrets(text)


def test_a_signed_body_of_another_form_is_malformed() -> None:
    """An event without data is refused."""
    with pytest.raises(Problem) as error:
        RESEND.read(resend({"type": "email.bounced"}), NOW)

    assert error.value.type.code == "malformed"
