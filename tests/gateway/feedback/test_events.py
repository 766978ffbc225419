"""Events of providers, and the reports that follow from them."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.api.problem import Problem
from services.gateway.feedback import ses
from services.gateway.feedback.events import (
    Provider,
    ProviderEvent,
    ProviderRequest,
    message_id,
    moment,
    report_of,
)
from services.gateway.feedback.mailgun import Mailgun
from services.gateway.feedback.postmark import Postmark
from services.gateway.feedback.resend import Resend, read_secrets
from services.gateway.feedback.sendgrid import SendGrid, read_keys
from shared.contracts import (
    Category,
    Report,
    ReportBounced,
    ReportComplained,
    ReportDelayed,
    ReportDelivered,
    ReportKind,
    ReportSource,
)
from shared.contracts.outcomes import ReplyClass
from tests.gateway.feedback.samples import (
    ANN,
    LOGIN,
    MAIL,
    MAILGUN_KEY,
    MESSAGE_ID,
    NOW,
    POLICY,
    RESEND_SECRET,
    UNKNOWN_USER,
    Fields,
    mailgun,
    mailgun_event,
    postmark,
    postmark_bounce,
    resend,
    resend_event,
    sendgrid,
    sendgrid_event,
    sendgrid_key,
    ses_bounce,
    ses_event,
)

SES = ReportSource.SES
SENDGRID = SendGrid(read_keys(sendgrid_key()))
POSTMARK = Postmark(LOGIN)
MAILGUN = Mailgun([MAILGUN_KEY])
RESEND = Resend(read_secrets(RESEND_SECRET))
SES_DELAY = ses_event("DeliveryDelay", "deliveryDelay", {"delayedRecipients": [ANN]})
BOUNCE = ProviderEvent(ReportKind.BOUNCED, MESSAGE_ID, ANN, NOW, diagnostic=UNKNOWN_USER)


def bounced(event: ProviderEvent) -> ReportBounced:
    """Return the report of a bounce."""
    report = report_of(event, SES, MAIL, NOW)
    assert isinstance(report, ReportBounced)
    return report


@pytest.mark.parametrize(
    ("kind", "contract"),
    [
        (ReportKind.BOUNCED, ReportBounced),
        (ReportKind.DELAYED, ReportDelayed),
        (ReportKind.DELIVERED, ReportDelivered),
        (ReportKind.COMPLAINED, ReportComplained),
    ],
)
def test_an_event_is_the_same_report_each_time(kind: ReportKind, contract: type[Report]) -> None:
    """The id of a report follows from its mail, recipient and kind, whoever reports it."""
    first = report_of(replace(BOUNCE, kind=kind), SES, MAIL, NOW)
    later = report_of(
        replace(BOUNCE, kind=kind, at=None), ReportSource.MAILGUN, MAIL, NOW + timedelta(hours=1)
    )

    assert isinstance(first, contract)
    assert isinstance(later, contract)
    assert (first.id, first.source) == (later.id, SES)
    assert (first.email_id, first.recipient, first.client) == ("e1", ANN, "shop")


def test_the_reply_of_the_server_decides_the_class() -> None:
    """A 5.7.1 is no unknown mailbox, whatever the provider calls it."""
    event = replace(BOUNCE, category="General", reply_class=ReplyClass.MAILBOX_UNKNOWN)

    assert bounced(BOUNCE).reply_class is ReplyClass.MAILBOX_UNKNOWN
    policy = bounced(replace(event, diagnostic=POLICY))
    assert policy.reply_class is ReplyClass.POLICY
    assert policy.reply is not None
    assert (policy.reply.code, policy.reply.enhanced) == (550, "5.7.1")


def test_the_category_decides_where_no_reply_says_more() -> None:
    """The rule of a report names the provider and its category."""
    event = replace(BOUNCE, category="MailboxFull", reply_class=ReplyClass.MAILBOX_FULL)
    for words in ("", "Something went wrong"):
        report = bounced(replace(event, diagnostic=words))
        assert (report.reply_class, report.rule) == (ReplyClass.MAILBOX_FULL, "ses:MailboxFull")
    assert bounced(replace(BOUNCE, diagnostic="")).reply_class is ReplyClass.UNDETERMINED


def test_long_words_are_cut() -> None:
    """A provider's long words do not make a report that cannot be built."""
    words = "word " * 10_000
    event = replace(BOUNCE, diagnostic=words, category=words, host=words)

    report = bounced(replace(event, reply_class=ReplyClass.UNDETERMINED, is_quoted=False))

    assert report.reply is not None
    assert len(report.reply.text) <= 1000


def test_the_words_of_a_provider_are_no_reply() -> None:
    """A provider that did not try the server knows nothing new of the mailbox."""
    event = replace(
        BOUNCE, is_quoted=False, category="Suppressed", reply_class=ReplyClass.UNDETERMINED
    )

    report = bounced(event)

    assert report.reply_class is ReplyClass.UNDETERMINED
    assert report.reply is not None  # which shows the words


def test_addresses_and_codes_are_hidden() -> None:
    """A report shows no whole address, and of a mail with a code no number that may be it."""
    mail = MAIL.model_copy(update={"category": Category.OTP})
    event = replace(BOUNCE, diagnostic="550 5.1.1 <bob@x.example> code 481516")

    report = report_of(event, SES, mail, NOW)

    assert isinstance(report, ReportBounced)
    assert report.reply is not None
    assert "bob@" not in report.reply.text
    assert "481516" not in report.reply.text


@pytest.mark.parametrize(
    ("feedback_type", "counts"),
    [("abuse", True), ("fraud", True), ("not-spam", False), ("", False)],
)
def test_only_complaints_complain(feedback_type: str, *, counts: bool) -> None:
    """A reader who says that a mail is no spam does not complain."""
    event = replace(BOUNCE, kind=ReportKind.COMPLAINED, feedback_type=feedback_type)

    assert (report_of(event, SES, MAIL, NOW) is not None) is counts


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (NOW - timedelta(hours=20), NOW - timedelta(hours=20)),
        (NOW + timedelta(seconds=1), NOW),
        (NOW - timedelta(days=31), NOW),
        (None, NOW),
    ],
)
def test_a_time_that_cannot_be_right_is_now(at: datetime | None, expected: datetime) -> None:
    """A report is of the time that its provider names, unless that is the future or long ago."""
    assert bounced(replace(BOUNCE, at=at)).at == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-29T07:00:00.1234567-05:00", datetime(2026, 11, 29, 12, 0, 0, 123456, UTC)),
        ("2026-11-29T12:00:00Z", NOW),
        (NOW.timestamp(), NOW),
        (str(int(NOW.timestamp())), NOW),
        ("2026-11-29T12:00:00", None),  # of an unknown zone
        ("soon", None),
        (1e30, None),
        (float("nan"), None),
        (None, None),
    ],
)
def test_times_are_read_in_each_form(value: object, expected: datetime | None) -> None:
    """A time that cannot be read is none."""
    assert moment(value) == expected


def test_a_message_id_has_brackets() -> None:
    """Mailgun leaves out the brackets of a Message-ID."""
    assert message_id("e1@our.example") == message_id(MESSAGE_ID) == MESSAGE_ID
    assert message_id(None) == message_id(" ") == ""


@given(
    st.builds(
        ProviderEvent,
        st.sampled_from(ReportKind),
        st.text(),
        st.text(),
        st.datetimes(timezones=st.just(UTC)) | st.none(),
        st.text(),
        st.text(),
        st.text(),
        st.text(),
        st.sampled_from(ReplyClass) | st.none(),
        st.booleans(),
        st.text(),
    )
)
def test_any_event_is_a_report_or_none(event: ProviderEvent) -> None:
    """No text of a provider makes a report that cannot be built."""
    assert isinstance(report_of(event, SES, MAIL, NOW), Report | None)


_TEXTS = st.text() | st.sampled_from(
    [*("550 5.1.1 unknown", "bounce", "Bounce", "failed", "email.bounced", "Permanent", ANN)]
)
_NAMES = st.sampled_from(
    [
        *("event", "email", "smtp-id", "reason", "type", "data", "to", "bounce", "headers"),
        *("RecordType", "Type", "Email", "Metadata", "message", "recipient", "timestamp", "mail"),
        *("bouncedRecipients", "emailAddress", "diagnosticCode", "eventType", "name", "value"),
        *("delivery-status", "code", "subType", "delivery", "recipients", "severity"),
    ]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=6),
    max_leaves=20,
)


_BOUNCE_FIELDS = st.dictionaries(_NAMES, _VALUES, max_size=6)


@given(_BOUNCE_FIELDS, _VALUES)
def test_any_signed_body_is_read_or_refused(fields: Fields, whole: object) -> None:
    """No body that a provider signs is an error of ours, whatever is in it."""
    bounce = {"subType": "General", **fields}
    requests: list[tuple[Provider, ProviderRequest]] = [
        (SENDGRID, sendgrid(sendgrid_event("bounce") | fields, whole)),
        (POSTMARK, postmark(postmark_bounce("HardBounce") | fields)),
        (MAILGUN, mailgun(mailgun_event("failed") | fields)),
        (MAILGUN, mailgun(whole)),
        (RESEND, resend(resend_event("email.bounced", **({"bounce": bounce, **fields})))),
        (RESEND, resend(whole)),
    ]
    events = list[ProviderEvent | None]()
    for provider, request in requests:
        with suppress(Problem):
            events += provider.read(request, NOW)
    for event in (ses_bounce("Permanent", "General", **fields), {**SES_DELAY, **fields}, whole):
        events += ses.read_events(json.dumps(event))
    for each in events:
        assert each is None or isinstance(report_of(each, SES, MAIL, NOW), Report | None)
