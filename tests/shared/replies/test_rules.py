"""Tests of the rules of replies: how they are written and read, and what a phrase matches."""

from hashlib import blake2b
from importlib.resources import files

import pytest

from ops import classify as ops_classify
from shared.contracts import ReplyClass, Stage
from shared.replies.classify import (
    ReplyContext,
    ReplyRule,
    load_rules,
    matches_at,
    read_phrase,
    words_of,
)
from tests.shared.replies.test_classify import BEFORE_RCPT

RULES = load_rules()
# A changed rule needs a new version of the set, and both values here.
VERSION, DIGEST = "14", "9e1a4872a20da554"

MINIMAL = {"id": "x", "class": "policy", "source": "RFC 5321", "example": "550 No"}


def stage_of(wanted: ReplyRule) -> Stage:
    """Return a stage at which a rule can match."""
    if not wanted.stages or Stage.RCPT in wanted.stages:
        return Stage.RCPT
    return min(wanted.stages)


@pytest.mark.parametrize("wanted", RULES.rules, ids=lambda each: each.id)
def test_every_rule_can_be_reached(wanted: ReplyRule) -> None:
    """A rule has an example that no rule before it matches."""
    host = wanted.hosts[0] if wanted.hosts else ""

    verdict = ops_classify.classify_line(wanted.example, stage_of(wanted), host)

    assert verdict.rule == f"{wanted.id}@{RULES.version}"
    assert verdict.reply_class == wanted.reply_class


def test_ids() -> None:
    """Each rule has a unique id and a source."""
    assert len({each.id for each in RULES.rules}) == len(RULES.rules)
    assert all(each.source for each in RULES.rules)


def test_every_class_has_a_rule() -> None:
    """Each class has a rule."""
    assert {each.reply_class for each in RULES.rules} == set(ReplyClass)


def test_unknown_only_from_rcpt_on() -> None:
    """A rule for unknown mailboxes holds from RCPT on only, at stages that it names."""
    for each in RULES.rules:
        if each.reply_class is ReplyClass.MAILBOX_UNKNOWN:
            assert each.stages
            assert not each.stages & set(BEFORE_RCPT)


def test_version() -> None:
    """Rules do not change without a new version, because events have the version."""
    names = sorted(
        each.name
        for each in files("shared.replies").joinpath("rules").iterdir()
        if ".toml" in each.name
    )
    digest = blake2b(digest_size=8)
    for name in names:
        digest.update(files("shared.replies").joinpath("rules").joinpath(name).read_bytes())

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
    """A misspelt rule is refused: it would match nothing, or too much."""
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
    reply = ReplyContext(Stage.RCPT, "550", "7.1", "mx.x.example")

    assert ReplyRule.read(MINIMAL | conditions, {}).matches(reply) is fits


SETS = {"user": ("user", "mailbox")}


def said(text: str, reply: str) -> bool:
    """Return whether a phrase occurs anywhere in a reply."""
    words, wanted = words_of(reply), read_phrase(text, SETS)
    return any(matches_at(wanted, words, at) for at in range(len(words)))


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
        ("无|無 此", "無此用戶"),
        ("사용자 ... 없", "사용자를 찾을 수 없습니다"),
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
def test_a_phrase_that_is_not_in_the_text(text: str, reply: str) -> None:
    """The words of a phrase must come in their order, not too far apart, and in no address."""
    assert not said(text, reply)


def test_recipient() -> None:
    """The recipient is removed everywhere, even an unusual one."""
    assert words_of("User Spam Box@x.example unknown", "spam box@X.example") == [
        "user",
        "unknown",
    ]


@pytest.mark.parametrize(
    "text", ["", ".. user", "user ..", "local? user", "us* unknown", "user| unknown", "$nobody"]
)
def test_not_well_formed(text: str) -> None:
    """A phrase that would match nowhere or everywhere is refused."""
    with pytest.raises((ValueError, KeyError)):
        read_phrase(text, SETS)
