"""Tests of phrases and of the words of a reply."""

import pytest

from services.sender.replies.rules import phrase

SETS = {"user": ("user", "mailbox")}


def said(text: str, reply: str) -> bool:
    """Tell whether a phrase stands anywhere in a reply."""
    words, wanted = phrase.words_of(reply), phrase.read(text, SETS)
    return any(phrase.stands(wanted, words, at) for at in range(len(words)))


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("user unknown", "550 User unknown"),
        ("user unknown", "<anna@x.example>: USER-UNKNOWN!"),
        ("user unknown", "user anna@x.example unknown"),
        ("user unknown", "user\nunknown"),
        ("user .. unknown", "User one two three unknown"),
        ("user ... unknown", "User a1 b c d e f g h unknown"),
        ("$user|inbox full", "The inbox full of letters"),
        ("$user|inbox full", "mailbox full"),
        ("no such local? $user", "no such user"),
        ("no such local? $user", "no such local mailbox"),
        ("user doesnt exist", "user doesn't exist"),
        ("block* by", "blocked by"),
        ("blocklist", "on our block list"),
        ("email", "E-Mail"),
        ("mailbox", "mail box"),
        ("boite pleine", "Boîte pleine"),
        ("boîte pleine", "Boite pleine"),
        ("存在しません", "この宛先は存在しません。"),
        ("ящик переполнен", "Ящик переполнен!"),
        ("#5.1.1", "no mailbox here (#5.1.1)"),
        ("ofr_416", "Invalid recipient. OFR_416 [416]"),
    ],
)
def test_said(text: str, reply: str) -> None:
    """Case, accents, punctuation, line ends, addresses and numbers make no difference."""
    assert said(text, reply)


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("user unknown", "unknown user"),
        ("user unknown", "user was unknown"),
        ("user .. unknown", "user one two three four unknown"),
        ("user unknown", "user"),
        ("block* by", "lock by"),
        ("unknown", "<unknown@x.example> rejected"),
        ("unknown", "unknown@x.example rejected"),
        ("#5.1.1", "IP #5.1.1.3 is listed"),
        ("#5.1.1", "no such user 5.1.1"),
    ],
)
def test_not_said(text: str, reply: str) -> None:
    """Words count in their order and not too far apart; what is in an address does not."""
    assert not said(text, reply)


def test_recipient() -> None:
    """The recipient is cut out wherever it stands, also if it is an odd one."""
    assert phrase.words_of("User Spam Box@x.example unknown", "spam box@X.example") == [
        "user",
        "unknown",
    ]


@pytest.mark.parametrize(
    "text", ["", ".. user", "user ..", "local? user", "us* unknown", "user| unknown", "$nobody"]
)
def test_not_well_formed(text: str) -> None:
    """A phrase that could not be found or would be found everywhere is refused."""
    with pytest.raises((ValueError, KeyError)):
        phrase.read(text, SETS)
