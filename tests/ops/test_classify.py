"""`ops classify`."""

import io
import json

import pytest

from ops import __main__ as ops
from ops import classify
from shared.contracts import Stage


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("550 5.1.1 no such user", 550, "5.1.1 no such user"),
        ("550-5.1.1 no such\n550 5.1.1 user", 550, "5.1.1 no such\n550 5.1.1 user"),
        ("550", 550, ""),
        ("smtp; 550 5.1.1 no", 550, "5.1.1 no"),
        ("host mx.x.example[192.0.2.250] said: 550 no", 550, "no"),
        ("5.1.1 no", 0, "5.1.1 no"),
        ("no such user", 0, "no such user"),
        ("IP 203.0.113.250 is bad", 0, "IP 203.0.113.250 is bad"),
        ("550 #5.1.0 Address rejected", 550, "#5.1.0 Address rejected"),
    ],
)
def test_read(line: str, code: int, text: str) -> None:
    """The reply is found in a line of a log, and no part of an address is taken for its code."""
    assert classify.split_reply(line) == (code, text)


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        ("said: 550 no (in reply to RCPT TO command)", Stage.RCPT),
        ("said: 550 no (in reply to end of DATA command)", Stage.DOT),
        ("said: 550 no (in reply to DATA command)", Stage.DATA),
        ("said: 550 no (in reply to MAIL FROM command)", Stage.MAIL),
        ("SMTP error from remote mail server after end of data: 550 no", Stage.DOT),
        ("SMTP error after RCPT TO:<anna@x.example>: 550 no", Stage.RCPT),
        ("host mx refused to talk to me: 554 no", Stage.CONNECT),
        ("550 no", None),
    ],
)
def test_stage(line: str, stage: Stage | None) -> None:
    """The stage of a log line is found, and `--stage` takes precedence."""
    assert classify.classify_line(line).stage == stage
    assert classify.classify_line(line, Stage.DOT).stage == Stage.DOT


def test_one(capsys: pytest.CaptureFixture[str]) -> None:
    """One reply is printed with its class, its rule and the source of that."""
    assert ops.main(["classify", "550 5.1.1 no such user"]) == 0

    out = capsys.readouterr().out
    assert "class  mailbox_unknown\n" in out
    assert "rule   user-unknown@" in out
    assert "why    RFC 3463" in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON has the same facts; stage and recipient matter."""
    options = [
        "--stage",
        "dot",
        "--recipient",
        "anna@x.example",
        "--host",
        "mx.x.example",
        "--json",
    ]

    assert ops.main(["classify", "550 no such user", *options]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["reply_class"] == "undetermined"
    assert (told["stage"], told["code"]) == ("dot", 550)


def test_many(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reply from standard input is one line of output; empty lines are skipped."""
    lines = "550 5.1.1 no such user\n\n452 4.2.2 mailbox full\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))

    assert ops.main(["classify", "-"]) == 0

    told = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(found, reply) for found, _, reply in told] == [
        ("mailbox_unknown", "550 5.1.1 no such user"),
        ("mailbox_full", "452 4.2.2 mailbox full"),
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("250 ok", "250 refuses nothing (RFC 5321 4.2.1)"),
        ("250-first\n250 2.0.0 queued", "250 refuses nothing (RFC 5321 4.2.1)"),
        ("354 go ahead", "354 refuses nothing (RFC 5321 4.2.1)"),
        ("host mx.x.example said: 250 2.1.5 ok", "250 refuses nothing (RFC 5321 4.2.1)"),
        ("", "no reply code, no enhanced code, and no words that a rule knows"),
        ("hello", "no reply code, no enhanced code, and no words that a rule knows"),
    ],
)
def test_a_reply_that_is_no_refusal_is_reported(
    line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line that is no refusal is an error."""
    assert ops.main(["classify", line]) == 1

    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"classify: {told}\n")


def test_a_refusal_without_a_code_is_known_by_its_words() -> None:
    """A refusal without a code is classified by its words."""
    assert classify.classify_line("User unknown").rule.startswith("user-unknown@")
    assert classify.classify_line("5.9.9 whatever").reply_class


def test_lines_of_a_log_that_are_no_refusals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that are no refusals go to standard error, and the others are classified."""
    monkeypatch.setattr("sys.stdin", io.StringIO("250 ok\n550 5.1.1 no such user\nhello\n"))

    assert ops.main(["classify", "-"]) == 1

    captured = capsys.readouterr()
    assert captured.out.startswith("mailbox_unknown\t")
    assert captured.out.count("\n") == 1
    assert captured.err.splitlines() == [
        "classify: 250 refuses nothing (RFC 5321 4.2.1): 250 ok",
        "classify: no reply code, no enhanced code, and no words that a rule knows: hello",
    ]
