"""Tests of the class of a reply, of the rules, and of how rules are read."""

from hashlib import blake2b
from importlib.resources import files

import pytest

from ops import classify as ops_classify
from shared.contracts import ReplyClass, Stage
from shared.replies.classify import (
    ReplyContext,
    ReplyRule,
    classify,
    load_rules,
    matches_at,
    read_phrase,
    words_of,
)
from tests.shared import replies
from tests.shared.score import report, score

UNKNOWN = ReplyClass.MAILBOX_UNKNOWN
BEFORE_RCPT = (Stage.CONNECT, Stage.EHLO, Stage.TLS, Stage.AUTH, Stage.MAIL)


def class_of(stage: Stage | None, code: int, text: str, recipient: str = "") -> ReplyClass:
    """Return the class of a reply."""
    return classify(stage, code, None, text, recipient=recipient).reply_class


@pytest.mark.parametrize("part", replies.PARTS)
def test_examples(part: str) -> None:
    """Precision and recall are high on each part of the corpus, above all for unknown mailboxes."""
    found = score(replies.read(part))
    precision, recall = found.macro()

    assert found.precision(UNKNOWN) >= 0.98, report(part)
    assert found.recall(UNKNOWN) >= 0.95, report(part)
    assert precision >= 0.95, report(part)
    assert recall >= 0.95, report(part)


@pytest.mark.parametrize("part", replies.HALVES)
def test_replies_from_elsewhere(part: str) -> None:
    """Replies from the pages of providers and the sources of servers are told apart too."""
    found = score(replies.read(part))

    assert found.precision(UNKNOWN) >= 0.98, report(part)
    assert found.recall(UNKNOWN) >= 0.85, report(part)
    assert found.right >= 0.85, report(part)


def test_the_corpus() -> None:
    """The parts have no reply in common, and each of the four older ones has every class."""
    parts = [list(replies.read(part)) for part in (*replies.PARTS, *replies.HALVES)]
    texts = [(each.stage, each.text) for part in parts for each in part]

    assert len(set(texts)) == len(texts)
    for part in parts[: len(replies.PARTS)]:
        assert {each.reply_class for each in part} == set(ReplyClass)


@pytest.mark.parametrize(
    ("code", "text", "found"),
    [
        (550, "5.1.1 User unknown", ReplyClass.MAILBOX_UNKNOWN),
        (550, "5.2.1 Mailbox disabled", ReplyClass.MAILBOX_DISABLED),
        (552, "5.2.2 Mailbox full", ReplyClass.MAILBOX_FULL),
        (550, "5.1.2 Host unknown", ReplyClass.DOMAIN),
        (550, "5.7.1 Access denied", ReplyClass.POLICY),
        (554, "5.7.1 Client host [192.0.2.7] blocked", ReplyClass.SPAM_BLOCK),
        (550, "5.7.23 SPF validation failed", ReplyClass.AUTH_SENDER),
        (550, "5.6.0 Invalid header", ReplyClass.CONTENT),
        (552, "5.3.4 Message too big", ReplyClass.TOO_BIG),
        (452, "4.5.3 Too many recipients", ReplyClass.RATE),
        (450, "4.7.1 Greylisted", ReplyClass.TEMPORARY),
        (554, "5.7.1 Relay access denied", ReplyClass.RELAY_DENIED),
        (553, "5.1.8 Sender domain does not exist", ReplyClass.OUR_CONFIG),
        (503, "5.5.1 Bad sequence of commands", ReplyClass.PROTOCOL),
        (550, "5.4.7 Delivery time expired", ReplyClass.EXPIRED),
        (550, "No", ReplyClass.UNDETERMINED),
    ],
)
def test_each_class(code: int, text: str, found: ReplyClass) -> None:
    """A typical reply of each class is classified as such."""
    assert class_of(Stage.RCPT, code, text) is found


@pytest.mark.parametrize("part", replies.PARTS)
@pytest.mark.parametrize("stage", BEFORE_RCPT)
def test_no_mailbox_is_unknown_before_rcpt(part: str, stage: Stage) -> None:
    """A reply before RCPT is never about an unknown mailbox."""
    for each in replies.read(part):
        assert class_of(stage, 550, each.text) is not UNKNOWN, each.text


@pytest.mark.parametrize(
    ("stage", "text", "unknown"),
    [
        (Stage.DOT, "5.1.1 User unknown", True),
        (Stage.DATA, "5.1.1 User unknown", True),
        (Stage.DOT, "delivery error: dd This user doesn't have a yahoo.com account", True),
        (Stage.DOT, "Unknown user anna@x.example", False),  # docomo: a filter of the user
        (Stage.DOT, "No such user here", False),
        (Stage.DOT, "Requested action not taken: mailbox unavailable", False),
        (None, "No such user here", True),
    ],
)
def test_after_data(stage: Stage | None, text: str, unknown: bool) -> None:  # noqa: FBT001 -- a table
    """After DATA the words for an unknown mailbox are no proof: a filter may use them."""
    assert (class_of(stage, 550, text) is UNKNOWN) is unknown


@pytest.mark.parametrize(
    "text", ["", "No", "5.0.0", "Requested action not taken", "Error", "ERR-7"]
)
@pytest.mark.parametrize("code", [550, 551, 553, 554])
def test_a_bare_code_says_nothing(code: int, text: str) -> None:
    """The code 550 alone does not mean an unknown mailbox: it is for policy reasons too."""
    assert class_of(Stage.RCPT, code, text) is ReplyClass.UNDETERMINED


@pytest.mark.parametrize(
    "block",
    [
        "your host is on our blacklist",
        "blocked using zen.spamhaus.org",
        "listed in the RBL",
        "listed at bl.spamcop.net",
        "poor reputation",
        "[S3150]",
        "banned",
        "(BL000001)",
        "[TSS04]",
        "spam",
        "SPF check failed",
        "too many connections",
        "rate limit exceeded",
        "due to policy restrictions",
    ],
)
@pytest.mark.parametrize("text", ["5.1.1 User unknown, {}", "No such user: {}", "5.1.1 {}"])
def test_a_block_beats_an_unknown_mailbox(text: str, block: str) -> None:
    """A block is no unknown mailbox, even with the code of one."""
    assert class_of(Stage.RCPT, 550, text.format(block)) is not UNKNOWN


@pytest.mark.parametrize(
    "recipient",
    ["blocked@spam.example", "policy@x.example", "over-quota@x.example", "rbl@b.example"],
)
def test_the_recipient_is_no_word(recipient: str) -> None:
    """The words of an address do not count, in any form in which the server repeats it."""
    for text in (f"5.1.1 <{recipient}>: User unknown", f"{recipient.upper()} User unknown"):
        assert class_of(Stage.RCPT, 550, text, recipient) is UNKNOWN


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("5.1.0 <anna@x.example> does not exist", True),
        ("5.1.1 <ben@x.example>: no such user", True),
        ("5.1.1 <anna@y.example>: no such user", True),
        ("5.1.0 <post@our.example> does not exist", False),
        ("5.1.1 [post@our.example] user unknown", False),
        ("5.1.1 sender address does not exist", False),
        ("5.1.1 the address in MAIL FROM does not exist", False),
        ("5.1.1 no such user post@our.example", True),
    ],
)
def test_the_subject(text: str, unknown: bool) -> None:  # noqa: FBT001 -- a table
    """A reply that begins with somebody else's address is not about the recipient."""
    assert (class_of(Stage.RCPT, 553, text, "anna@x.example") is UNKNOWN) is unknown


def test_underscores() -> None:
    """Underscores between words are blanks."""
    assert class_of(Stage.RCPT, 550, "user_unknown") is UNKNOWN
    assert words_of("OFR_416 virus_scan") == ["ofr_416", "virus", "scan"]


def test_a_recipient_that_is_no_address() -> None:
    """The recipient is removed literally, not as a pattern."""
    assert class_of(Stage.RCPT, 550, "User .*( unknown", ".*(") is UNKNOWN


@pytest.mark.parametrize(
    ("code", "enhanced", "text", "found"),
    [
        (550, "5.1.1", "No", UNKNOWN),
        (550, None, "5.1.1 No", UNKNOWN),
        (550, None, "5.1.1", UNKNOWN),
        (550, "4.1.1", "No", ReplyClass.UNDETERMINED),
        (450, "4.1.1", "No", ReplyClass.TEMPORARY),
        (550, None, "No 5.1.1", ReplyClass.UNDETERMINED),
        (550, None, "IP 5.7.1.100 is no friend of ours", ReplyClass.UNDETERMINED),
        (550, "5.1.10", "null MX", ReplyClass.DOMAIN),
        (550, "5.1.10", "RESOLVER.ADR.RecipientNotFound", UNKNOWN),
        (550, "5.2.1", "User unknown", ReplyClass.MAILBOX_DISABLED),
        (550, "5.2.2", "User unknown", ReplyClass.MAILBOX_FULL),
        (0, None, "5.1.1", UNKNOWN),
    ],
)
def test_enhanced_codes(code: int, enhanced: str | None, text: str, found: ReplyClass) -> None:
    """An enhanced code counts only right after the reply code, and only if it has its class."""
    assert classify(Stage.RCPT, code, enhanced, text).reply_class is found


@pytest.mark.parametrize("text", ["x" * 1000, "a@" * 500, "<" * 1000, "user " * 200, "\x00\ufffd"])
def test_odd_texts(text: str) -> None:
    """Any text has a class."""
    assert class_of(Stage.RCPT, 550, text) in ReplyClass


def test_the_rule() -> None:
    """A classification has its rule and the version of the rules."""
    assert classify(Stage.RCPT, 550, "5.1.1", "No").rule.startswith("code-unknown@")


RULES = load_rules()
# A changed rule needs a new version of the set, and both values here.
VERSION, DIGEST = "9", "0ab09f93d315faf2"

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
