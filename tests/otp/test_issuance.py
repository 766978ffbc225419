"""What commands for codes are answered with."""

from dataclasses import replace

import pytest

from services.otp.allowance import GuessBudget, PastGuesses
from services.otp.challenge import Challenge, CodePolicy, CodeScope, NewChallenge
from services.otp.issuance import Issued, Issuer, IssueRefused, IssueRequest, alive
from services.otp.limits import HOUR, Limit
from services.otp.tally import MINUTE, WindowCounter
from shared.contracts import Withholding

NOW = 1_900_000_000_000
RULES = CodePolicy(600_000, 60_000, tries=5, failures=30, key_ids=frozenset({"key"}))
ANNA = CodeScope("shop", "sign-in", "anna@example.com")
FIVE = Limit("recipient/anna@example.com", 5, HOUR)
CHALLENGE = Challenge("old", ANNA, bytes(16), "key", 6, NOW, NOW + 600_000, NOW)


def order(number: int, *limits: Limit) -> IssueRequest:
    """Give a command for Anna."""
    return IssueRequest(
        f"command-{number}", NewChallenge(f"new-{number}", ANNA, bytes(16), "key", 8), limits
    )


def issuance(now: int, *standing: Challenge, sent: int = 0) -> Issuer:
    """Begin with these challenges, and with mails sent in this minute."""
    rows = [(FIVE.subject, now // MINUTE, sent)]
    return Issuer(RULES, now, {each.scope: each for each in standing}, WindowCounter(rows, now))


def test_a_new_challenge() -> None:
    """Whoever has none gets what was drafted, for the lifetime from now."""
    desk = issuance(NOW)
    made = Challenge("new-1", ANNA, bytes(16), "key", 8, NOW, NOW + 600_000, NOW)

    assert desk.decide(order(1)) == Issued(made, NOW, NOW + 60_000, 600_000)
    assert desk.made == [made]


def test_a_resend_repeats() -> None:
    """After the cooldown the same challenge is mailed again, with its old expiry and length."""
    now = NOW + 60_000
    desk = issuance(now, CHALLENGE)
    mailed = replace(CHALLENGE, mailed_at=now)

    assert desk.decide(order(1)) == Issued(mailed, now, now + 60_000, 540_000)
    assert desk.made == []
    assert desk.mailed == {"old"}


def test_another_spelling_is_as_early() -> None:
    """Other letters in the local part get round no cooldown, and their code is another one.

    Issue 10, A12.
    """
    loud = CodeScope(ANNA.client, ANNA.purpose, "ANNA@example.com")
    command = IssueRequest("loud", NewChallenge("new", loud, bytes(16), "key", 8), ())

    assert issuance(NOW, CHALLENGE).decide(command) == IssueRefused(Withholding.COOLDOWN, 60_000)
    later = issuance(NOW + 60_000, CHALLENGE)
    answer = later.decide(command)
    assert isinstance(answer, Issued)
    assert answer.challenge.scope == loud
    assert later.decide(order(1)) == IssueRefused(Withholding.COOLDOWN, 60_000)


def test_another_purpose_has_a_cooldown_of_its_own() -> None:
    """Only the address is folded: another client or purpose waits for nobody."""
    other = replace(ANNA, purpose="pay")
    command = IssueRequest("other", NewChallenge("new", other, bytes(16), "key", 8), ())

    assert isinstance(issuance(NOW, CHALLENGE).decide(command), Issued)


@pytest.mark.parametrize("after", [0, 1, 59_999])
def test_too_early(after: int) -> None:
    """Within the cooldown nothing is mailed, and it is told how long it lasts."""
    desk = issuance(NOW + after, CHALLENGE)

    assert desk.decide(order(1, FIVE)) == IssueRefused(Withholding.COOLDOWN, 60_000 - after)
    assert desk.tally.added == {}
    assert desk.mailed == set()


def test_at_once_one_is_mailed() -> None:
    """Of commands that come together the first one is mailed, the others are too early."""
    desk = issuance(NOW)
    answers = [desk.decide(order(number)) for number in range(3)]

    assert [type(answer) for answer in answers] == [Issued, IssueRefused, IssueRefused]


def test_the_last_resend_is_told_no_later_than_the_end() -> None:
    """When a challenge ends within the cooldown, a new one may be asked for at its end."""
    now = NOW + 570_000
    answer = issuance(now, CHALLENGE).decide(order(1))

    assert isinstance(answer, Issued)
    assert answer.resend_at == CHALLENGE.expires_at


def test_over_a_limit() -> None:
    """Nothing is mailed, and it is told when there may be a mail again."""
    desk = issuance(NOW, sent=5)
    answer = desk.decide(order(1, FIVE))

    assert answer == IssueRefused(Withholding.LIMIT, 61 * MINUTE - NOW % MINUTE)
    assert desk.made == []


def test_the_longer_wait_is_told() -> None:
    """Whoever waits as long as is told is not told to wait again."""
    desk = issuance(NOW, CHALLENGE, sent=5)

    assert desk.decide(order(1, FIVE)) == IssueRefused(
        Withholding.LIMIT, 61 * MINUTE - NOW % MINUTE
    )


def test_two_limits_on_one_subject_count_once() -> None:
    """A mail is one mail, however many limits there are on its recipient."""
    desk = issuance(NOW)
    desk.decide(order(1, FIVE, replace(FIVE, count=10, minutes=24 * HOUR)))

    assert desk.tally.added == {FIVE.subject: 1}


def test_nobody_waits_for_a_time_that_was_undone() -> None:
    """A mail from before the clock was put back holds up no other for an hour."""
    desk = issuance(NOW, replace(CHALLENGE, created_at=NOW - 1, mailed_at=NOW + 3_600_000))

    assert isinstance(desk.decide(order(1)), Issued)


@pytest.mark.parametrize(
    ("challenge", "now", "guesses", "expected"),
    [
        (CHALLENGE, NOW, 4, True),
        (CHALLENGE, NOW, 5, False),
        (CHALLENGE, NOW + 600_000, 0, False),
        (CHALLENGE, NOW - 3_600_000, 0, False),
        (replace(CHALLENGE, key_id="withdrawn"), NOW, 0, False),
    ],
    ids=["alive", "exhausted", "expired", "of the future", "without its key"],
)
def test_alive(challenge: Challenge, now: int, guesses: int, *, expected: bool) -> None:
    """Only a code that can still be right is mailed again."""
    left = GuessBudget(
        RULES, [PastGuesses("anna@example.com", "old", verified=False, count=guesses)]
    )

    assert (ANNA in alive(RULES, now, [challenge], left)) is expected
