"""Reports are read as they were meant, and no mail crashes or stalls their reading."""

import base64
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inbound.reports.events import event_of
from services.inbound.reports.reading import Action, MailKind, RecipientBlock, read
from shared.contracts import (
    Category,
    MailReceived,
    Report,
    ReportBounced,
    ReportComplained,
    ReportDelayed,
    ReportDelivered,
    ReportSource,
    encode,
)
from shared.contracts.reports import COMPLAINT_TYPES, MAX_TEXT_CHARS
from tests.inbound.reports.corpus import EXAMPLES, POSTFIX, SERVED, Example
from tests.inbound.reports.mails import (
    ANN,
    MAIL,
    NOW,
    UNKNOWN_USER,
    a_path,
    arf,
    dsn,
    fields,
    multipart,
    recipient_block,
)


def test_the_corpus_is_large() -> None:
    """There are some 250 reports, each with a name of its own, and no file is left out."""
    assert len({each.name for each in EXAMPLES}) == len(EXAMPLES) >= 240
    files = [*Path(__file__).parent.glob("*/*.eml")]
    assert len(files) == len(POSTFIX) + sum(map(len, SERVED.values()))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: each.name)
def test_each_report_is_read_as_it_was_meant(example: Example) -> None:
    """The kind, the fate of our recipient and the class of the refusal are as expected."""
    found = read(example.content)
    event = event_of(found, MAIL.model_copy(update={"recipient": example.recipient}), NOW)

    assert found.kind == example.kind
    assert found.feedback_type == example.feedback_type
    if example.kind is MailKind.ARF:
        assert isinstance(event, ReportComplained) is (example.feedback_type in COMPLAINT_TYPES)
        assert found.paths[0] == a_path()
        return
    if example.action is None:
        assert event is None
        return
    expected: dict[Action, type[Report]] = {
        Action.FAILED: ReportBounced,
        Action.DELAYED: ReportDelayed,
    }
    assert event is not None
    assert isinstance(event, expected.get(example.action, ReportDelivered))
    assert event.source is ReportSource.DSN
    if isinstance(event, ReportBounced):
        assert event.reply_class == example.reply_class
        assert (event.rule is None) is (event.reply is None)


def test_the_parts_of_a_report() -> None:
    """A block has all names of its recipient, the reply and the server that had it."""
    original = f"utf-8; <{ANN.upper()}>"
    found = read(dsn(recipient_block(original_recipient=original, status="5.0.0")))

    assert found.blocks == [
        RecipientBlock(
            Action.FAILED,
            (ANN, ANN.upper()),
            "5.0.0",
            UNKNOWN_USER.removeprefix("smtp; "),
            "mx.example.org",
        )
    ]
    assert (found.reporter, found.paths) == ("mx.example", (a_path(),))


@pytest.mark.parametrize(
    ("field", "address"),
    [
        ("rfc822; ann@example.org", "ann@example.org"),
        ("rfc822;<ann@example.org>", "ann@example.org"),
        ("ann@example.org", "ann@example.org"),
        ("utf-8; \\x{E4}nn@b\\x{FC}cher.example", "änn@bücher.example"),
        ("utf-8; änn@bücher.example", "änn@bücher.example"),
        ("rfc822; =?utf-8?b?w6Rubg==?=@x.example", "änn@x.example"),
        ("rfc822; \\x{D800}\\x{110000}a@x.example", "a@x.example"),
    ],
)
def test_addresses(field: str, address: str) -> None:
    """An address is read without its type and brackets, in each of its encodings (RFC 6533)."""
    [block] = read(dsn(recipient_block(final_recipient=field))).blocks

    assert block.addresses == (address,)


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_an_encoded_report(encoding: str) -> None:
    """A part of RFC 6533 may be encoded as a text is."""
    text = fields(reporting_mta="dns; mx.example") + "\r\n" + recipient_block()
    coded = base64.encodebytes(text.encode()).decode() if encoding == "base64" else text
    part = f"Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: {encoding}"

    [block] = read(multipart("delivery-status", [f"{part}\r\n\r\n{coded}"])).blocks
    assert block.addresses == (ANN,)


def test_the_reply_to_a_code_is_redacted() -> None:
    """A report about a mail with a one-time code may quote the code; nothing keeps it."""
    quoted = recipient_block(
        diagnostic_code="smtp; 550 5.7.1 Spam: Your code is 482911 for ann@x.example"
    )
    mail = MAIL.model_copy(update={"category": Category.OTP})
    event = event_of(read(dsn(quoted)), mail, NOW)

    assert isinstance(event, ReportBounced)
    assert event.reply is not None
    assert "482911" not in event.reply.text
    assert "ann@" not in event.reply.text


def test_copies_of_a_report_have_one_id() -> None:
    """The same report twice, at whatever time, is one event."""
    one = event_of(read(dsn()), MAIL, NOW)
    copy = event_of(read(dsn()), MAIL, NOW.replace(hour=23))
    other = event_of(read(arf()), MAIL, NOW)

    assert one is not None
    assert copy is not None
    assert other is not None
    assert one.id == copy.id != other.id


@pytest.mark.parametrize(
    "content",
    [
        b"".join(
            b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n)
            for n in range(5000)
        ),
        b"Content-Type: message/rfc822\r\n\r\n" * 5000,
        b"X-Header: y\r\n" * 1_000_000,
        b"Subject: x\r\n\r\n" + b"\r\n" * 1_000_000,
    ],
    ids=["parts", "mails", "headers", "lines"],
)
def test_what_would_take_long_is_not_parsed(content: bytes) -> None:
    """Thousands of nested parts, a million headers or lines are refused before they are parsed."""
    assert read(content).kind is MailKind.UNREADABLE


@pytest.mark.parametrize(
    "content",
    [
        b"A: " + b"x" * 30_000_000,
        b"Subject: x\r\n\r\n" + b"=" * 30_000_000,
        b"Content-Type: text/html\r\n\r\n" + b"<b>" * 100_000,
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + b"=3D" * 100_000,
    ],
    ids=["header", "body", "tags", "quoted"],
)
def test_only_the_beginning_is_read(content: bytes) -> None:
    """A line of 30 MB, open tags and long encodings cost what their first part costs."""
    assert read(content).kind in {MailKind.OTHER, MailKind.UNREADABLE}


@given(octets=st.binary(max_size=2000))
def test_any_octets_are_a_mail(octets: bytes) -> None:
    """No octets raise an error."""
    assert read(octets).kind in set(MailKind)


@settings(max_examples=300, deadline=None)
@given(
    place=st.integers(0, len(EXAMPLES) - 1),
    seed=st.integers(0, 2**32),
    inserted=st.binary(max_size=20),
)
def test_changed_reports_raise_no_error(place: int, seed: int, inserted: bytes) -> None:
    """A report that was cut, doubled or changed anywhere is read as something, and as an event."""
    content = bytearray(EXAMPLES[place].content)
    chance = random.Random(seed)  # noqa: S311 -- of a test
    for _ in range(chance.randrange(1, 6)):
        start = chance.randrange(len(content) + 1)
        end = min(len(content), start + chance.randrange(40))
        content[start:end] = chance.choice([inserted, b"", content[start:end] * 2, b"\r\n\r\n"])

    found = read(bytes(content))
    event = event_of(found, MAIL, NOW)
    assert event is None or event.email_id == MAIL.email_id


@given(
    st.lists(st.tuples(st.sampled_from(["X-A", "Subject", "Y" * 300]), st.text(max_size=3000))),
    st.text(max_size=2000),
    st.integers(1, 60),
)
@settings(max_examples=60, deadline=None)
def test_another_mail_is_told_within_bounds(
    headers: list[tuple[str, str]], text: str, times: int
) -> None:
    """The event of a mail that is no report fits its contract, whatever the mail is."""
    lines = [f"{name}: {' '.join(value.split())}" for name, value in headers]
    found = read("\n".join([*lines, "", text * times]).encode(errors="replace"))
    if found.kind is not MailKind.OTHER:
        return

    event = MailReceived.about(
        MAIL,
        b"",
        at=NOW,
        sender="",
        to=a_path(),
        headers=[{"name": name, "value": value} for name, value in found.headers],
        text=found.text,
        is_cut=found.is_cut,
    )
    assert len(encode(event)) <= MailReceived.max_bytes


def test_what_is_cut() -> None:
    """A mail's first headers and the beginning of its text are told, and that there is more."""
    body = "\U0001f600" * 60_000
    found = read(b"X: y\r\n" * 200 + b"\r\n" + body.encode())

    assert (found.kind, found.is_cut) == (MailKind.OTHER, True)
    assert (len(found.headers), found.text) == (100, body[:MAX_TEXT_CHARS])
