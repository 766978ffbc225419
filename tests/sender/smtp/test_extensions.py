"""Tests of what is read from a server's extensions."""

from dataclasses import replace

import pytest

from services.sender.outcome import Reason, Unsendable
from services.sender.smtp.extensions import Offers
from tests.sender.mails import CONTENT, a_mail


def test_nothing() -> None:
    """A server without extensions offers nothing and limits nothing."""
    assert Offers.read({}) == Offers()


def test_all() -> None:
    """Each extension is found by its keyword, limits by their names in any case."""
    extensions = {
        "pipelining": "",
        "smtputf8": "",
        "dsn": "",
        "size": "1000",
        "limits": "mailmax=5 RCPTMAX=7 RcptDomainMax=3 OTHER=9",
    }

    assert Offers.read(extensions) == Offers(
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
    """What is no number, or none that limits, is no limit."""
    offers = Offers.read({"size": number, "limits": f"MAILMAX={number} RCPTMAX={number}"})

    assert offers == Offers(sized=True)


def test_objections() -> None:
    """A mail that the server cannot take is not begun."""
    fits = Offers(sized=True, size=len(CONTENT))
    international = replace(a_mail(), needs_smtputf8=True)

    assert fits.objection(a_mail()) is None
    assert replace(fits, size=len(CONTENT) - 1).objection(a_mail()) == Unsendable(Reason.TOO_BIG)
    assert fits.objection(international) == Unsendable(Reason.SMTPUTF8_NOT_OFFERED)
    assert Offers(smtputf8=True).objection(international) is None


def test_the_recipients_alone() -> None:
    """Without SMTPUTF8 those are reached whose address is ASCII, if sender and headers are too."""
    plain = Offers()
    mixed = replace(a_mail("a@x.example", "ü@y.example"), needs_smtputf8=True)
    foreign = replace(a_mail("ü@y.example"), needs_smtputf8=True)
    lacking = Unsendable(Reason.SMTPUTF8_NOT_OFFERED)

    assert plain.reaches(mixed) == ("a@x.example",)
    assert plain.objection(mixed) is None
    assert Offers(smtputf8=True).reaches(mixed) == ("a@x.example", "ü@y.example")
    for mail in (
        foreign,
        replace(mixed, sender="ö@our.example"),
        replace(mixed, content="Cc: ä@x.example\r\n\r\n".encode()),
    ):
        assert plain.reaches(mail) == ()
        assert plain.objection(mail) == lacking
