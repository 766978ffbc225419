"""Tests of the rules that are shipped, and of how rules are read."""

from hashlib import blake2b
from importlib.resources import files

import pytest

from ops import classify
from services.sender.replies.rules import rule
from services.sender.replies.rules.rule import ReplyRule
from shared.contracts import ReplyClass, Stage

RULES = rule.load()
BEFORE_RCPT = {Stage.CONNECT, Stage.EHLO, Stage.TLS, Stage.AUTH, Stage.MAIL}
# Who changes a rule gives the set a new version and puts the two values here.
VERSION, DIGEST = "8", "e8d5ec0561d89e93"

MINIMAL = {"id": "x", "class": "policy", "source": "RFC 5321", "example": "550 No"}


def stage_of(wanted: ReplyRule) -> Stage:
    """Give a stage at which a rule can fit."""
    if not wanted.stages or Stage.RCPT in wanted.stages:
        return Stage.RCPT
    return min(wanted.stages)


@pytest.mark.parametrize("wanted", RULES.rules, ids=lambda each: each.id)
def test_every_rule_can_be_reached(wanted: ReplyRule) -> None:
    """A rule has an example that it and no rule before it decides."""
    host = wanted.hosts[0] if wanted.hosts else ""

    told = classify.tell(wanted.example, stage_of(wanted), host)

    assert told.rule == f"{wanted.id}@{RULES.version}"
    assert told.reply_class == wanted.reply_class


def test_ids() -> None:
    """An id names one rule, and every rule says where it is from."""
    assert len({each.id for each in RULES.rules}) == len(RULES.rules)
    assert all(each.source for each in RULES.rules)


def test_every_class_can_be_told() -> None:
    """There is no class without a rule."""
    assert {each.reply_class for each in RULES.rules} == set(ReplyClass)


def test_unknown_only_from_rcpt_on() -> None:
    """Before RCPT no server can mean the recipient, and after it the rule must say that it may."""
    for each in RULES.rules:
        if each.reply_class is ReplyClass.MAILBOX_UNKNOWN:
            assert each.stages
            assert not each.stages & BEFORE_RCPT


def test_version() -> None:
    """Events name the version of the rules, so rules do not change without a new one."""
    names = sorted(
        each.name
        for each in files("services.sender.replies.rules").iterdir()
        if ".toml" in each.name
    )
    digest = blake2b(digest_size=8)
    for name in names:
        digest.update(files("services.sender.replies.rules").joinpath(name).read_bytes())

    assert (RULES.version, digest.hexdigest()) == (VERSION, DIGEST)


@pytest.mark.parametrize(
    "data",
    [
        MINIMAL | {"class": "no_such_class"},
        MINIMAL | {"stages": ["no_such_stage"]},
        MINIMAL | {"wrods": ["spam"]},
        {"id": "x", "class": "policy"},
    ],
)
def test_mistakes(data: dict[str, object]) -> None:
    """A misspelt rule is refused; it would decide nothing, or too much."""
    with pytest.raises((ValueError, KeyError)):
        ReplyRule.read(data, {})


@pytest.mark.parametrize(
    ("conditions", "fits"),
    [
        ({}, True),
        ({"codes": ["55"]}, True),
        ({"codes": ["4", "550"]}, True),
        ({"codes": ["551"]}, False),
        ({"enhanced": ["7.1"]}, True),
        ({"enhanced": ["7.*"]}, True),
        ({"enhanced": ["", "7.10"]}, False),
        ({"stages": ["rcpt", "dot"]}, True),
        ({"stages": ["mail"]}, False),
        ({"hosts": ["x.example"]}, True),
        ({"hosts": ["y.example"]}, False),
    ],
)
def test_conditions(conditions: dict[str, object], fits: bool) -> None:  # noqa: FBT001 -- a table
    """All conditions of a rule must hold."""
    reply = rule.ReplyContext(Stage.RCPT, "550", "7.1", "mx.x.example")

    assert ReplyRule.read(MINIMAL | conditions, {}).matches(reply) is fits


SETS = {"user": ("user", "mailbox")}


def said(text: str, reply: str) -> bool:
    """Tell whether a phrase stands anywhere in a reply."""
    words, wanted = rule.words_of(reply), rule.read_phrase(text, SETS)
    return any(rule.matches_at(wanted, words, at) for at in range(len(words)))


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
    assert rule.words_of("User Spam Box@x.example unknown", "spam box@X.example") == [
        "user",
        "unknown",
    ]


@pytest.mark.parametrize(
    "text", ["", ".. user", "user ..", "local? user", "us* unknown", "user| unknown", "$nobody"]
)
def test_not_well_formed(text: str) -> None:
    """A phrase that could not be found or would be found everywhere is refused."""
    with pytest.raises((ValueError, KeyError)):
        rule.read_phrase(text, SETS)
