"""Challenges and codes: derived, bound to their scope, compared in constant time."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.otp.codes import (
    MAX_CLOCK_STEP_MS,
    Challenge,
    CodeGenerator,
    CodeScope,
    normalise,
    truncate,
)

KEY, OLD_KEY = bytes(range(32)), bytes(32)
SCOPE = CodeScope("shop", "sign-in", "a@example.com")
CHALLENGE = Challenge(
    id="c-1",
    scope=SCOPE,
    nonce=bytes(16),
    key_id=min(CodeGenerator([KEY]).key_ids),
    digits=6,
    created_at=0,
    expires_at=600_000,
    mailed_at=0,
)


@pytest.mark.parametrize(
    ("digest", "code"),
    [
        ("cc93cf18508d94934c64b65d8ba7667fb7cde4b0", "755224"),
        ("75a48a19d4cbe100644e8ac1397eea747a2d33ab", "287082"),
        ("0bacb7fa082fef30782211938bc1c5e70416ff44", "359152"),
        ("66c28227d03a2d5529262ff016a1e6ef76557ece", "969429"),
    ],
)
def test_truncation_is_that_of_the_rfc(digest: str, code: str) -> None:
    """Digests become the codes of RFC 4226, appendix D."""
    assert truncate(bytes.fromhex(digest), 6) == code


@given(st.binary(min_size=32, max_size=32), st.integers(4, 8))
def test_a_code_has_all_its_digits(digest: bytes, digits: int) -> None:
    """A code is decimal and keeps its leading zeros."""
    code = truncate(digest, digits)

    assert len(code) == digits
    assert code.isascii()
    assert code.isdecimal()


@pytest.mark.parametrize(
    ("digits", "count"), [(4, 20_000), (5, 20_000), (6, 1_000_000), (7, 20_000), (8, 20_000)]
)
def test_codes_are_uniform(digits: int, count: int) -> None:
    """Each digit is equally likely at each place, so that a guess is worth no more than 1 in n.

    Chi-square with 9 degrees of freedom: 33.7 is exceeded once in 10,000 runs, and this run is
    always the same one.
    """
    generator, id_ = CodeGenerator([KEY]), CHALLENGE.key_id
    codes = "".join(
        generator.code(Challenge("c", SCOPE, number.to_bytes(16, "big"), id_, digits, 0, 1, 0))
        for number in range(count)
    )
    for place in range(digits):
        seen = Counter(codes[place::digits])
        expected = count / 10
        chi_square = sum((seen[digit] - expected) ** 2 / expected for digit in "0123456789")
        assert chi_square < 33.7


@pytest.mark.parametrize(
    "other",
    [
        replace(CHALLENGE, nonce=bytes([1] * 16)),
        replace(CHALLENGE, scope=replace(SCOPE, client="other")),
        replace(CHALLENGE, scope=replace(SCOPE, purpose="confirm-address")),
        replace(CHALLENGE, scope=replace(SCOPE, email="b@example.com")),
        replace(CHALLENGE, scope=replace(SCOPE, email="A@example.com")),
        replace(CHALLENGE, scope=replace(SCOPE, client="shopa", email="@example.com")),
    ],
    ids=["nonce", "client", "purpose", "recipient", "spelling", "shifted border"],
)
def test_a_code_is_bound(other: Challenge) -> None:
    """A code is right for one nonce, client, purpose and recipient alone."""
    generator = CodeGenerator([KEY])

    assert generator.code(other) != generator.code(CHALLENGE)
    assert not generator.is_right(other, generator.code(CHALLENGE))


@pytest.mark.parametrize(
    "spell",
    [
        "{0}{1}",
        " {0} {1} ",
        "{0}-{1}",
        "{0}\N{EN DASH}{1}",
        "{0}\N{NO-BREAK SPACE}{1}",
        "{0}\N{NARROW NO-BREAK SPACE}{1}",
    ],
)
def test_spaces_and_dashes_do_not_count(spell: str) -> None:
    """Spaces and dashes between the digits do not make a code wrong."""
    generator = CodeGenerator([KEY])
    code = generator.code(CHALLENGE)

    assert generator.is_right(CHALLENGE, spell.format(code[:3], code[3:]))


@given(st.text(max_size=64))
def test_any_text_may_be_typed(typed: str) -> None:
    """Any typed text but the code is wrong, and none raises."""
    generator = CodeGenerator([KEY])

    assert generator.is_right(CHALLENGE, typed) == (normalise(typed) == generator.code(CHALLENGE))


@pytest.mark.parametrize("spoil", ["{}0", "0{}", "{}x", "{}\n", "+{}", ""])
def test_other_characters_are_wrong(spoil: str) -> None:
    """Any other sign beside the digits makes a code wrong."""
    generator = CodeGenerator([KEY])

    assert not generator.is_right(CHALLENGE, spoil.format(generator.code(CHALLENGE)))


def test_digits_of_other_scripts_are_wrong() -> None:
    """Digits of other scripts make a code wrong."""
    generator = CodeGenerator([KEY])
    fullwidth = "".join(chr(ord(digit) + 0xFEE0) for digit in generator.code(CHALLENGE))

    assert not generator.is_right(CHALLENGE, fullwidth)
    assert not generator.is_right(CHALLENGE, "\ud800")


def test_without_a_challenge_nothing_is_right() -> None:
    """Without a challenge no code is right."""
    generator = CodeGenerator([KEY])

    assert not any(generator.is_right(None, f"{number:06}") for number in range(0, 1_000_000, 37))


def test_keys_rotate() -> None:
    """New challenges name the newest key; those of an old key stay right while it is here."""
    old = CodeGenerator([OLD_KEY])
    challenge = replace(CHALLENGE, key_id=min(old.key_ids))
    rotated = CodeGenerator([KEY, OLD_KEY])

    assert rotated.new_challenge(SCOPE).key_id == CHALLENGE.key_id
    assert rotated.is_right(challenge, old.code(challenge))
    assert not CodeGenerator([KEY]).is_right(challenge, old.code(challenge))


def test_no_two_new_challenges_are_alike() -> None:
    """Each challenge has an id and a nonce of its own."""
    generator = CodeGenerator([KEY])
    drafts = [generator.new_challenge(SCOPE) for _ in range(100)]

    assert len({each.nonce for each in drafts}) == 100
    assert len({each.id for each in drafts}) == 100


def test_a_new_challenge_has_the_requested_digits() -> None:
    """A request without a length has that of the deployment."""
    generator = CodeGenerator([KEY], digits=8)

    assert generator.new_challenge(SCOPE).digits == 8
    assert generator.new_challenge(SCOPE, 4).digits == 4


@pytest.mark.parametrize(
    ("scope", "request_id", "typed", "same"),
    [
        (SCOPE, "request-1", "123456", True),
        (SCOPE, "request-1", " 123-456 ", True),
        (SCOPE, "request-1", "123457", False),
        (SCOPE, "request-2", "123456", False),
        (replace(SCOPE, purpose="reset"), "request-1", "123456", False),
        (replace(SCOPE, client="bank"), "request-1", "123456", False),
        (replace(SCOPE, email="b@example.com"), "request-1", "123456", False),
    ],
    ids=["same", "grouped", "code", "request", "purpose", "client", "recipient"],
)
def test_a_guess_is_known_again(
    scope: CodeScope, request_id: str, typed: str, *, same: bool
) -> None:
    """The same question with the same code is the same guess, and nothing else is."""
    generator = CodeGenerator([KEY])
    asked = generator.fingerprints(SCOPE, "request-1", "123456")

    assert (generator.fingerprints(scope, request_id, typed) == asked) is same


def test_a_guess_is_known_again_after_a_rotation() -> None:
    """A guess has a name by each key, the newest first, so that the name by an old key finds it."""
    old = CodeGenerator([OLD_KEY]).fingerprints(SCOPE, "request-1", "123456")
    new = CodeGenerator([KEY]).fingerprints(SCOPE, "request-1", "123456")
    rotated = CodeGenerator([KEY, OLD_KEY]).fingerprints(SCOPE, "request-1", "123456")

    assert rotated == (*new, *old)
    assert new != old


MADE = 1_900_000_000_000
HOUR_MS = 3_600_000
STORED = replace(
    CHALLENGE,
    scope=CodeScope("shop", "sign-in", "Anna@Example.com"),
    created_at=MADE,
    expires_at=MADE + 600_000,
    mailed_at=MADE,
)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (MADE, True),
        (MADE + 599_999, True),
        (MADE + 600_000, False),
        (MADE + HOUR_MS, False),
        (MADE - 1, True),
        (MADE - MAX_CLOCK_STEP_MS, True),
        (MADE - MAX_CLOCK_STEP_MS - 1, False),
        (MADE - HOUR_MS, False),
    ],
)
def test_in_its_time(now: int, *, expected: bool) -> None:
    """A challenge is in time from its creation, less a small step of the clock, to its expiry."""
    assert STORED.is_in_time(now) is expected


def test_a_recipient_has_one_spelling() -> None:
    """All spellings of an address are one recipient."""
    assert STORED.scope.recipient == "anna@example.com"
