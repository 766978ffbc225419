"""Tests of the meaning of SMTP replies."""

import re
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.contracts import Reply, ReplyClass, Stage
from shared.replies import reply as replies
from shared.replies.reply import MAX_WAIT_SECONDS, requested_wait

ANNA = "anna@x.example"


@pytest.mark.parametrize(
    ("code", "text", "enhanced"),
    [
        (550, "5.1.1 No such user", "5.1.1"),
        (550, "5.1.1", "5.1.1"),
        (550, "5.1.1\n5.1.1 See below", "5.1.1"),
        (550, "No such user 5.1.1", None),  # out of the middle of the text
        (550, "IP 5.7.1.100 is blacklisted", None),
        (550, "5.7.1.100 is blacklisted", None),
        (550, "4.1.1 No such user", None),  # not the class of the code
        (550, "5.1.1: No such user", None),
        (550, "5.1111.1 No", None),
        (250, "2.0.0 OK", "2.0.0"),
        (250, "", None),
    ],
)
def test_enhanced(code: int, text: str, enhanced: str | None) -> None:
    """An enhanced code comes right after the code and has its class."""
    assert replies.received(Stage.RCPT, code, text).enhanced == enhanced


def test_text() -> None:
    """An event has no text that is no UTF-8, and no long text."""
    strange = b"\xff\xfe no".decode("utf-8", "surrogateescape")

    assert replies.received(Stage.RCPT, 550, strange).text == "\ufffd\ufffd no"
    assert len(replies.received(Stage.RCPT, 550, "x" * 9999).text) == replies.MAX_TEXT_CHARS


@pytest.mark.parametrize(
    ("stage", "code", "accepted", "refused", "permanent"),
    [
        (Stage.MAIL, 250, True, False, False),
        (Stage.RCPT, 251, True, False, False),
        (Stage.RCPT, 299, True, False, False),  # unknown: by its first digit
        (Stage.RCPT, 354, False, False, False),
        (Stage.DATA, 354, True, False, False),
        (Stage.DATA, 250, False, False, False),
        (Stage.DATA, 399, False, False, False),
        (Stage.DOT, 250, True, False, False),
        (Stage.DOT, 354, False, False, False),
        (Stage.RCPT, 450, False, True, False),
        (Stage.RCPT, 499, False, True, False),
        (Stage.RCPT, 421, False, False, False),  # the connection ends
        (Stage.RCPT, 550, False, True, True),
        (Stage.RCPT, 599, False, True, True),
        (Stage.RCPT, 999, False, False, False),
        (Stage.RCPT, 199, False, False, False),
        (Stage.RCPT, 0, False, False, False),
        (Stage.CONNECT, 554, False, True, False),
        (Stage.AUTH, 535, False, True, False),
        (Stage.MAIL, 530, False, True, False),  # we are not logged in
        (Stage.MAIL, 503, False, True, False),  # our stream is out of step
    ],
)
def test_meaning(stage: Stage, code: int, accepted: bool, refused: bool, permanent: bool) -> None:  # noqa: FBT001 -- a table
    """A reply is classed by its code; one that is neither yes nor no ends the session."""
    reply = replies.received(stage, code, "as it may be")

    assert replies.accepted(reply) is accepted
    assert replies.refused(reply) is refused
    assert replies.permanent(reply) is permanent


@pytest.mark.parametrize(
    ("stage", "code", "text", "too_many"),
    [
        (Stage.RCPT, 452, "4.5.3 No", True),
        (Stage.RCPT, 451, "4.5.3 No", True),
        (Stage.RCPT, 550, "5.5.3 No", True),
        (Stage.RCPT, 552, "5.5.3 No", True),
        (Stage.RCPT, 550, "Too many recipients", True),
        (Stage.RCPT, 451, "Too many recipients, the rest please later", True),
        (Stage.RCPT, 450, "4.7.1 Too many recipients from your address this hour", False),
        (Stage.RCPT, 452, "4.2.2 Mailbox full", False),
        (Stage.RCPT, 421, "4.5.3 Too many recipients", False),
        (Stage.RCPT, 250, "2.5.3 OK", False),
        (Stage.DOT, 550, "5.5.3 Too many recipients", False),
    ],
)
def test_no_room(stage: Stage, code: int, text: str, too_many: bool) -> None:  # noqa: FBT001 -- a column of the table
    """A full transaction is recognized at RCPT by X.5.3 or by words, with any code."""
    assert replies.too_many_recipients(replies.received(stage, code, text)) is too_many


@pytest.mark.parametrize("text", ["5.5.3 No", "Too many recipients"])
def test_too_many_recipients(text: str) -> None:
    """552 for "too many recipients" is temporary, as RFC 5321 4.5.3.1.10 asks."""
    assert not replies.permanent(replies.received(Stage.RCPT, 552, text))
    assert replies.permanent(replies.received(Stage.DOT, 552, text))
    assert replies.permanent(replies.received(Stage.RCPT, 552, "5.2.2 Mailbox full"))


@pytest.mark.parametrize(
    ("stage", "code", "text", "unknown"),
    [
        (Stage.RCPT, 550, "5.1.1 No such user", True),
        (Stage.RCPT, 550, "5.1.10 RESOLVER.ADR.RecipientNotFound; not found", True),
        (Stage.RCPT, 550, "5.1.1 <anna@x.example>: Recipient address rejected", True),
        (Stage.RCPT, 550, "5.1.10 Recipient has a null MX", False),
        (Stage.RCPT, 550, "No such user", True),
        (Stage.RCPT, 550, "5.7.1 Rejected", False),
        (Stage.RCPT, 550, "5.1.1 Your IP is listed by Spamhaus", False),
        (Stage.RCPT, 550, "5.1.1 Blocked", False),
        (Stage.RCPT, 552, "5.2.2 Mailbox full", False),
        (Stage.DOT, 550, "5.1.1 No such user", True),
        (Stage.DATA, 550, "5.1.1 No such user", True),
        (Stage.DOT, 550, "No such user", False),
        (Stage.MAIL, 550, "5.1.1 No such user", False),
    ],
)
def test_unknown_mailbox(stage: Stage, code: int, text: str, unknown: bool) -> None:  # noqa: FBT001 -- a table
    """A mailbox is unknown only by a reply from RCPT on, without words of a block."""
    found = replies.classify_refusal(replies.received(stage, code, text), ANNA, alone=True)

    assert found is not None
    assert (found.reply_class is ReplyClass.MAILBOX_UNKNOWN) is unknown


def test_unknown_among_others() -> None:
    """A refusal of a whole mail for several recipients makes no mailbox unknown."""
    at_rcpt = replies.received(Stage.RCPT, 550, "5.1.1 No such user")
    at_dot = replies.received(Stage.DOT, 550, "5.1.1 No such user")

    found = [replies.classify_refusal(reply, ANNA, alone=False) for reply in (at_rcpt, at_dot)]

    assert [each and each.reply_class for each in found] == [
        ReplyClass.MAILBOX_UNKNOWN,
        ReplyClass.UNDETERMINED,
    ]


def test_a_yes_has_no_class() -> None:
    """A positive reply has no class, and a missing reply is temporary."""
    away = replies.classify_refusal(
        replies.no_reply(Stage.RCPT, "connection lost"), ANNA, alone=True
    )

    assert (
        replies.classify_refusal(replies.received(Stage.DOT, 250, "2.0.0 OK"), ANNA, alone=True)
        is None
    )
    assert away is not None
    assert away.reply_class is ReplyClass.TEMPORARY


def test_address_is_no_word() -> None:
    """The words of the recipient's own address do not count."""
    reply = replies.received(Stage.RCPT, 550, "5.1.1 <Spam@x.example>: unknown")

    found = replies.classify_refusal(reply, "spam@x.example", alone=True)

    assert found is not None
    assert found.reply_class is ReplyClass.MAILBOX_UNKNOWN


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("550 <anna@x.example>: no", "550 <a***@x.example>: no"),
        ("anna@x.example, ben@y.example", "a***@x.example, b***@y.example"),
        ("ä@x.example unknown", "ä***@x.example unknown"),
        ("2.0.0 Ok: queued as 4F1", "2.0.0 Ok: queued as 4F1"),
        ("me @ home", "me @ home"),
    ],
)
def test_masked(text: str, kept: str) -> None:
    """Only the first letter and the domain of an address are kept."""
    assert replies.masked(text) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Subject: 123456 is your code", "Subject: *** is your code"),
        ("Your code is 433429.", "Your code is ***."),
        ("412 029 or 412-029 or 412.029", "*** or *** or ***"),
        ("412\u00a0029 is it", "*** is it"),
        ("\uff14\uff13\uff13\uff14\uff12\uff19", "***"),
        ("4 1 2 0 2 9!", "***!"),
        ("验证码123456是", "验证码***是"),
        ("body: '\\n123456\\n'", "body: '\\n***\\n'"),
        ("Subject: =?utf-8?b?MTIzNDU2IGlzdCBJaHIgQ29kZQ==?=", "Subject: ***"),
        ("5.7.1 433429 was found", "5.7.1 *** was found"),
        ("550 5.7.1 no", "550 5.7.1 no"),
        ("5.7.26 no\n5.7.26 and no", "5.7.26 no\n5.7.26 and no"),
        ("[192.0.2.7] is blocked", "[***] is blocked"),  # 12.34.56.78 may well be a code
        ("queued as 12345678AB", "queued as 12345678AB"),
        ("queued as 4Y3XQp5Kz6z1234", "queued as 4Y3XQp5Kz6z1234"),
        ("OK 1700000000 a640c23a62f3a-aac0eff19desi1759812166b.313", None),
        ("id=9b9e0513-2511-40e2-b5ec-aabbc181314a", None),
        ("up to 999 mails", None),
    ],
)
def test_without_codes(text: str, kept: str | None) -> None:
    """A kept reply to a mail with a code has no number that may be it; ids of queues stay."""
    assert replies.without_codes(text) == (text if kept is None else kept)


MARKS = st.text(" -.,:/_'\t\n\u00a0\u2009\u2011\u2013\u00b7\u200b\u00ad\ufe0f", max_size=3)
# Of Latin, full-width, Arabic and Devanagari writing.
DIGITS = [chr(zero + n) for zero in (0x30, 0xFF10, 0x660, 0x966) for n in range(10)]
CODES = st.lists(st.sampled_from(DIGITS), min_size=4, max_size=8)
BEFORE = st.sampled_from(
    ["", "Code: ", "Code", "(", "#", "G-", "验证码", "5.7.1 ", "\\n", "%20", "<b>"]
)
AFTER = st.sampled_from(
    ["", ".", "!", ")", " is your code", "是", "입니다", "\\n", "</b>", "\n5.7.1 no"]
)


@given(code=CODES, marks=st.lists(MARKS, min_size=8, max_size=8), before=BEFORE, after=AFTER)
def test_codes_in_every_writing(code: list[str], marks: list[str], before: str, after: str) -> None:
    """A code is masked in any script, with any characters between its digits and around it."""
    written = "".join(digit + mark for digit, mark in zip(code, marks, strict=False))
    assume(
        not re.fullmatch(r"[245]\.[0-7]\.\d+", written.strip())
    )  # as an enhanced code is written
    kept = replies.without_codes(before + written + after)

    left = "".join(str(unicodedata.digit(each, "")) for each in kept)
    assert "".join(str(unicodedata.digit(each)) for each in code) not in left
    assert "***" in kept


def test_a_code_that_is_cut_off() -> None:
    """The first digits of a code at the cut of a long reply are masked too."""
    long = replies.received(Stage.DOT, 550, "x" * (replies.MAX_TEXT_CHARS - 3) + "123456").text

    assert replies.without_codes(long) == "x" * (replies.MAX_TEXT_CHARS - 3) + "***"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4.7.1 Greylisted, please try again in 5 minutes", 300),
        ("4.2.0 Greylisted for 300 seconds", 300),
        ("Retry after 300 seconds", 300),
        ("Service busy, retry in 90s", 90),
        ("Too fast; please wait 10 min before sending more", 600),
        ("Try again in 1 hour", 3600),
        ("4.7.0 Greylisting in action, please come back in 00:05:00", 300),
        ("4.7.1 Greylisted, come back in 04:59", 299),
        ("4.7.1 Deferred for 2h", 7200),
        ("Try again in 0 seconds", None),
        ("Try again in 7 days", None),
        ("Try again in 99999 hours", MAX_WAIT_SECONDS),
        ("Try again later", None),
        ("4.7.28 At most 100 mails in 1 hour", None),
        ("Try again later. At most 100 mails in 1 hour", None),
        ("4.3.2 System busy, try 192.0.2.1 again", None),
    ],
)
def test_wishes(text: str, seconds: float | None) -> None:
    """A request to wait has a time near it; a time alone is a limit or something else."""
    assert requested_wait(replies.received(Stage.RCPT, 451, text)) == seconds


def test_only_temporary() -> None:
    """A positive, permanent or missing reply asks for no wait."""
    text = "Try again in 5 minutes"

    assert requested_wait(replies.received(Stage.DOT, 250, text)) is None
    assert requested_wait(replies.received(Stage.RCPT, 550, text)) is None
    assert requested_wait(replies.no_reply(Stage.DOT, text)) is None


def said(stage: Stage, code: int, enhanced: str | None = None) -> Reply:
    """Return a reply."""
    return Reply(stage=stage, code=code, enhanced=enhanced)


@pytest.mark.parametrize("code", [421, 450, 451, 452, 454, 550])
@pytest.mark.parametrize("stage", Stage)
def test_asks_for_less(stage: Stage, code: int) -> None:
    """Before RCPT a reply may ask for less; after it a mail's recipients can cause it.

    452 to MAIL may be about the size of the mail, or about a connection that is used up.
    """
    before = {Stage.CONNECT, Stage.EHLO, Stage.TLS, Stage.AUTH}
    less = stage in before and code in {421, 450, 452, 454}
    less |= stage is Stage.MAIL and code in {421, 450, 454}

    assert replies.is_pushback(said(stage, code, f"{code // 100}.7.1")) is less


@pytest.mark.parametrize("stage", Stage)
def test_replies_that_do_not_ask_for_less(stage: Stage) -> None:
    """A temporary refusal without a policy, a positive reply and silence do not ask for less."""
    for code, enhanced in ((450, None), (450, "4.2.1"), (250, "2.0.0"), (0, None)):
        assert not replies.is_pushback(said(stage, code, enhanced))
