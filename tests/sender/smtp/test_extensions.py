"""Tests of a server's extensions, and of its history of pipelining."""

from dataclasses import replace

import pytest

from services.sender.outcome import FailureReason, Unsendable
from services.sender.smtp.extensions import LOCK_STEP_SECONDS, MAX_FAILURES, Extensions, Pipelining
from tests.sender.mails import CONTENT, a_mail


def test_nothing() -> None:
    """A server without extensions has no limits."""
    assert Extensions.read({}) == Extensions()


def test_all() -> None:
    """Extensions are found by keyword, limits by name in any case."""
    extensions = {
        "pipelining": "",
        "smtputf8": "",
        "dsn": "",
        "size": "1000",
        "limits": "mailmax=5 RCPTMAX=7 RcptDomainMax=3 OTHER=9",
    }

    assert Extensions.read(extensions) == Extensions(
        pipelining=True,
        smtputf8=True,
        dsn=True,
        sized=True,
        size=1000,
        mails=5,
        recipients=7,
        domains=3,
    )


@pytest.mark.parametrize("number", ["", "0", "-1", "many", "1e3", "\u0661", "9" * 5000])
def test_no_number(number: str) -> None:
    """A value that is 0 or no number is no limit."""
    offers = Extensions.read({"size": number, "limits": f"MAILMAX={number} RCPTMAX={number}"})

    assert offers == Extensions(sized=True)


def test_objections() -> None:
    """A mail that the server's extensions do not allow is not begun."""
    fits = Extensions(sized=True, size=len(CONTENT))
    international = replace(a_mail(), needs_smtputf8=True)

    assert fits.objection(a_mail()) is None
    assert replace(fits, size=len(CONTENT) - 1).objection(a_mail()) == Unsendable(
        FailureReason.TOO_BIG
    )
    assert fits.objection(international) == Unsendable(FailureReason.SMTPUTF8_NOT_OFFERED)
    assert Extensions(smtputf8=True).objection(international) is None


def test_the_recipients_alone() -> None:
    """Without SMTPUTF8 ASCII recipients can be served if sender and headers are ASCII too."""
    plain = Extensions()
    mixed = replace(a_mail("a@x.example", "ü@y.example"), needs_smtputf8=True)
    foreign = replace(a_mail("ü@y.example"), needs_smtputf8=True)
    lacking = Unsendable(FailureReason.SMTPUTF8_NOT_OFFERED)

    assert plain.reachable(mixed) == ("a@x.example",)
    assert plain.objection(mixed) is None
    assert Extensions(smtputf8=True).reachable(mixed) == ("a@x.example", "ü@y.example")
    for mail in (
        foreign,
        replace(mixed, sender="ö@our.example"),
        replace(mixed, content="Cc: ä@x.example\r\n\r\n".encode()),
    ):
        assert plain.reachable(mail) == ()
        assert plain.objection(mail) == lacking


def test_offered() -> None:
    """PIPELINING is used where it is offered."""
    assert Pipelining().allows(100, 0)


def test_never_coped() -> None:
    """A relay that fails at its first group gets one command at a time for a while."""
    relay = Pipelining()
    relay.failed(1, 0)

    assert not relay.allows(1, LOCK_STEP_SECONDS - 1)
    assert relay.allows(1, LOCK_STEP_SECONDS)


def test_one_mail() -> None:
    """After a success, mails that end without a reply do not end pipelining."""
    relay = Pipelining()
    relay.succeeded(1)
    for _ in range(MAX_FAILURES - 1):
        relay.failed(1, 0)
    assert relay.allows(1, 0)
    relay.succeeded(1)
    relay.failed(1, 0)

    assert relay.allows(1, 0)


def test_too_large() -> None:
    """After a failure only groups larger than any that has worked are not pipelined."""
    relay = Pipelining()
    relay.succeeded(5)
    relay.failed(50, 0)

    assert [relay.allows(size, 0) for size in (1, 5, 6, 50, 100)] == [True, True] + [False] * 3


def test_grown_worse() -> None:
    """MAX_FAILURES in a row end pipelining even after a success."""
    relay = Pipelining()
    relay.succeeded(5)
    for _ in range(MAX_FAILURES):
        relay.failed(2, 0)

    assert not relay.allows(1, 0)
