"""Which guesses may be compared: so many a challenge, so many failures a recipient."""

from dataclasses import replace

from services.otp.allowance import GuessBudget, PastGuesses
from services.otp.challenge import Challenge, CodePolicy, CodeScope

RULES = CodePolicy(600_000, 60_000, tries=5, failures=30, key_ids=frozenset({"key"}))
ANNA = "anna@example.com"


def challenge(id_: str = "c-1", email: str = ANNA) -> Challenge:
    """Give a challenge."""
    return Challenge(id_, CodeScope("shop", id_, email), bytes(16), "key", 6, 0, 600_000, 0)


def past(challenge_id: str, count: int, *, verified: bool = False) -> PastGuesses:
    """Give so many guesses of Anna's."""
    return PastGuesses(ANNA, challenge_id, verified, count)


def granted(allowance: GuessBudget, asked: Challenge, guesses: int = 100) -> int:
    """Tell how many of some guesses may be compared."""
    return sum(allowance.grant(asked) is not None for _ in range(guesses))


def test_five_guesses_a_challenge() -> None:
    """Each challenge has its own guesses, those of the past counted."""
    allowance = GuessBudget(RULES, [past("c-1", 2), past("c-9", 5)])

    assert granted(allowance, challenge("c-1")) == 3
    assert granted(allowance, challenge("c-2")) == 5
    assert allowance.is_exhausted("c-1")
    assert allowance.is_exhausted("c-9")
    assert not allowance.is_exhausted("c-3")


def test_thirty_failures_a_recipient() -> None:
    """Past them no challenge of the recipient gives a guess, whichever spelling it is for."""
    allowance = GuessBudget(RULES, [past(f"old-{n}", 5) for n in range(5)])

    assert granted(allowance, challenge("c-1")) == 5
    assert granted(allowance, challenge("c-2")) == 0
    assert granted(allowance, challenge("c-3", "ANNA@example.com")) == 0
    assert granted(allowance, challenge("c-4", "ben@example.com")) == 5


def test_what_was_verified_is_no_failure() -> None:
    """Whoever types right codes all day is not locked out; such a guess is used all the same."""
    allowance = GuessBudget(RULES, [past(f"old-{n}", 1, verified=True) for n in range(100)])

    assert granted(allowance, challenge("c-1")) == 5
    assert granted(allowance, challenge("old-1")) == 4


def test_without_a_challenge_nothing_counts() -> None:
    """Guesses at nothing lock nobody out."""
    allowance = GuessBudget(RULES, [])

    assert all(allowance.grant(None) is None for _ in range(100))
    assert granted(allowance, challenge()) == 5


def test_the_challenge_is_given() -> None:
    """What may be compared is what was asked for."""
    allowance = GuessBudget(replace(RULES, tries=1), [])

    assert allowance.grant(challenge()) == challenge()
    assert allowance.grant(challenge()) is None
