"""Replies that reports quote."""

import pytest

from shared.contracts import ReplyClass
from shared.replies.quoted import QuotedReply


@pytest.mark.parametrize(
    ("diagnostic", "status", "code", "enhanced", "text"),
    [
        ("smtp; 550 5.1.1 No such user", "5.0.0", 550, "5.1.1", "5.1.1 No such user"),
        ("smtp;550 Gone", "5.1.1", 550, "5.1.1", "Gone"),
        ("550-5.1.1 one\n550 two", "", 550, "5.1.1", "5.1.1 one\n550 two"),
        ("550 Refused", "4.2.2", 550, None, "Refused"),
        ("No MX for x.example", "5.1.2", 0, "5.1.2", "No MX for x.example"),
        ("550 Refused", "5.0.0", 550, None, "Refused"),
        ("550 Refused", "five", 550, None, "Refused"),
        ("", "", 0, None, ""),
    ],
)
def test_code_status_and_text_are_read(
    diagnostic: str, status: str, code: int, enhanced: str | None, text: str
) -> None:
    """The enhanced code is that of the reply, else a status of the same class that says more."""
    assert QuotedReply.read(diagnostic, status) == QuotedReply(code, enhanced, text)


def test_a_refusal_has_a_class_and_an_acceptance_none() -> None:
    """5.7.1 is no unknown mailbox, and a 250 is no refusal at all."""
    unknown = QuotedReply.read("550 5.1.1 User unknown").classify("ann@x.example")
    policy = QuotedReply.read("550 5.7.1 Message rejected by policy").classify("ann@x.example")

    assert unknown is not None
    assert unknown.reply_class is ReplyClass.MAILBOX_UNKNOWN
    assert policy is not None
    assert policy.reply_class is not ReplyClass.MAILBOX_UNKNOWN
    assert QuotedReply.read("250 2.0.0 OK").classify("ann@x.example") is None


def test_addresses_and_codes_are_hidden() -> None:
    """A kept reply shows no whole address, and of a mail with a code no number that may be it."""
    reply = QuotedReply.read("550 5.1.1 <ann@x.example> 481516")

    assert reply.redacted(of_code=False).text == "5.1.1 <a***@x.example> 481516"
    assert "481516" not in reply.redacted(of_code=True).text
