"""Tests of the answer that counts when no relay has taken a mail."""

import pytest

from services.sender.outcome import Reason, Unsendable
from services.sender.replies import reply as replies
from services.sender.smtp.asked import Asked, best, says_nothing_of_others
from services.sender.smtp.circuit_breaker import Postponed
from shared.contracts import Stage

ANNA = "anna@x.example"
NO_UTF8 = Asked("a", Unsendable(Reason.SMTPUTF8_NOT_OFFERED))
TOO_BIG = Asked("b", Unsendable(Reason.TOO_BIG))
REFUSED = Asked("c", {ANNA: replies.heard(Stage.MAIL, 550, "5.1.8 No")})
SUSPECT = Asked("d", REFUSED.result, suspected=True)
LATER = Asked("e", {ANNA: replies.heard(Stage.MAIL, 450, "4.7.1 Later")})
AWAY = Asked("f", {ANNA: replies.missing(Stage.CONNECT, "connection refused")})
RESTS = Asked("g", Postponed(5))


@pytest.mark.parametrize(
    ("asked", "counts"),
    [
        ([NO_UTF8, TOO_BIG], TOO_BIG),
        ([TOO_BIG, REFUSED, NO_UTF8], REFUSED),
        ([REFUSED, RESTS], RESTS),
        ([RESTS, AWAY], AWAY),
        ([LATER, REFUSED], LATER),
        ([SUSPECT, TOO_BIG], SUSPECT),
        ([LATER, AWAY], LATER),
    ],
)
def test_best(asked: list[Asked], counts: Asked) -> None:
    """The relay that went furthest tells most, and while one may still take it there is hope."""
    assert best(asked) is counts


def test_final() -> None:
    """A lack of a relay, and a refusal for good, do not change by asking it again."""
    assert all(each.final for each in (NO_UTF8, TOO_BIG, REFUSED))
    assert not any(each.final for each in (SUSPECT, LATER, AWAY, RESTS))


@pytest.mark.parametrize(
    ("stage", "code", "others"),
    [
        (Stage.CONNECT, 554, True),
        (Stage.AUTH, 535, True),
        (Stage.MAIL, 0, True),
        (Stage.MAIL, 450, True),
        (Stage.MAIL, 452, True),
        (Stage.MAIL, 552, True),
        (Stage.MAIL, 550, True),
        (Stage.RCPT, 550, False),
        (Stage.DATA, 554, False),
        (Stage.DOT, 0, False),
        (Stage.DOT, 250, False),
    ],
)
def test_others(stage: Stage, code: int, others: bool) -> None:  # noqa: FBT001 -- a column of the table
    """Up to MAIL another relay may do better; after that the answer is about the mail."""
    assert says_nothing_of_others({ANNA: replies.heard(stage, code, "")}) is others


def test_too_late_for_all() -> None:
    """A mail whose time is over is not taken elsewhere."""
    assert not says_nothing_of_others(Unsendable(Reason.EXPIRED))
