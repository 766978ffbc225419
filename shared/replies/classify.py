"""The class of an SMTP reply, by rules: the first rule that matches, in their order.

Precision comes first. A block that counts as an unknown mailbox is the worst mistake, since one
listed IP address would then be evidence against every domain. In doubt a reply is `undetermined`.

The rules are data, in the TOML files of `rules`. Each change is a new version of the set. Every
event has the version, so that events judged by an older one can be counted again.

A phrase is the words by which a rule recognizes a reply, with blanks between. `a|b` is either of
two words, `block*` any word with that beginning, `$user` any word of a named set, `word?` an
optional word. `..` leaves room for up to three words in between, `...` for up to eight. A phrase
begins with a word that is not optional, and `block*` needs at least STEM_CHARS letters.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple, Self

from shared.contracts import ReplyClass, Stage

STEM_CHARS = 3
_GAPS = {"..": 3, "...": 8}

_MAILBOX = r"[^\s<>()\"',;:\[\]=]+@[^\s<>()\"',;:\[\]]+"
_ADDRESS = re.compile(_MAILBOX + r"|<[^<>\s/]*>")
# What stands before the first word of a reply.
_BEGINNING = r"^((?:[245]\.\d{{1,3}}\.\d{{1,3}}\s+)?[<\[(\"']*){0}"
_LOCAL = r"^((?:[245]\.\d{{1,3}}\.\d{{1,3}}\s+)?){0}(?=[\s:,]|$)|(?<=[\"'`]){0}(?=[\"'`])"
# Chinese and Japanese have no blanks between words, and Korean has particles behind them: there a
# sign is a word.
_SIGNS = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_SIGN = re.compile(rf"([{_SIGNS}])")
_BESIDE_SIGN = re.compile(rf"(?<=[{_SIGNS}])(?=[^\s|?])|(?<=[^\s|])(?=[{_SIGNS}])")
_MARKS = re.compile(r"[\u0300-\u036f]")
# Written as one word or as two; `doesn't` is one.
_COMPOUND = re.compile(
    r"\b(e(?=[ -]mail)|mail(?=[ -](?:box|drop))|local(?=[ -]part)|screen(?=[ -]name)"
    r"|over(?=[ -]quota)|look(?=[ -]up\b)|time(?=[ -]out\b)"
    r"|(?:black|block|white|grey|gray|allow|deny|safe)(?=[ -]list))[ -]"
)
_NOT = re.compile(r"n['\u2019`\u00b4]t\b")
# Words with underscores for blanks, unlike the names of codes, as ofr_416 is one.
_JOINED = re.compile(r"\b_?(?:\d+_)?[^\W\d_]+(?:_[^\W\d_]+)+\b")
# Numbers below 1000 are reply codes, parts of IP addresses and counts: ignored.
# qmail writes enhanced codes as (#5.1.1).
_WORD = re.compile(r"#[245]\.\d{1,3}\.\d{1,3}(?![.\d])|\d*[^\W\d]\w*|\d{4,}|0\d+")


def words_of(text: str, recipient: str = "") -> list[str]:
    """Return the words of a reply in lower case, without accents and without mail addresses.

    An address, above all the recipient's own, may contain any word and means nothing. Its part
    before the @ alone, quoted or as the first word, is the word `recipient`. Where a reply begins
    with the recipient's address, that is the word `rcptto`.
    """
    if recipient:
        whole = _BEGINNING.format(re.escape(recipient))
        text = re.sub(whole, r"\g<1> rcptto ", text, count=1, flags=re.IGNORECASE)
        text = re.sub(re.escape(recipient), " ", text, flags=re.IGNORECASE)
        local = re.escape(recipient.rpartition("@")[0])
        if local:
            text = re.sub(_LOCAL.format(local), r"\g<1>recipient", text, flags=re.IGNORECASE)
    if "@" in text or "<" in text:
        text = _ADDRESS.sub(" ", text)
    text = text.casefold()
    if not text.isascii():
        text = _SIGN.sub(r" \1 ", _without_marks(text))
    if "_" in text:
        text = _JOINED.sub(lambda joined: joined[0].replace("_", " "), text)
    return _WORD.findall(_COMPOUND.sub(r"\1", _NOT.sub("nt", text)))


def _without_marks(text: str) -> str:
    """Return a text without accents; NFC joins the parts of Korean and Japanese signs again."""
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFKD", text)))


@dataclass(frozen=True, slots=True)
class PhrasePart:
    """One word of a phrase: its forms, and how many other words may come before it."""

    words: frozenset[str]
    stems: tuple[str, ...]
    gap: int = 0
    optional: bool = False

    @classmethod
    def read(cls, text: str, gap: int, sets: Mapping[str, Sequence[str]]) -> Self:
        """Parse one word. Raises KeyError for an unknown set, ValueError for too short a stem."""
        optional, choices = text.endswith("?"), list[str]()
        for choice in text.removesuffix("?").split("|"):
            choices += sets[choice[1:]] if choice.startswith("$") else [choice]
        stems = tuple(each[:-1] for each in choices if each.endswith("*"))
        if not all(choices) or any(len(stem) < STEM_CHARS for stem in stems):
            raise ValueError(f"{text} is too short")
        words = frozenset(each for each in choices if not each.endswith("*"))
        return cls(words, stems, gap, optional)


Phrase = tuple[PhrasePart, ...]


def read_phrase(text: str, sets: Mapping[str, Sequence[str]]) -> Phrase:
    """Parse a phrase. Raises ValueError or KeyError when it is not well formed."""
    parts, gap = list[PhrasePart](), 0
    for item in _pieces(text):
        if item in _GAPS:
            gap = _GAPS[item]
        else:
            parts.append(PhrasePart.read(item, gap, sets))
            gap = 0
    if not parts or gap or parts[0].gap or parts[0].optional:
        raise ValueError(f"{text!r} has no beginning or no end")
    return tuple(parts)


def _pieces(text: str) -> Iterable[str]:
    """Return the words of a phrase in the form of `words_of`: 存在 is two of them, 无|無 one."""
    return _BESIDE_SIGN.sub(" ", _without_marks(text.casefold())).split()


def matches_at(phrase: Phrase, words: Sequence[str], at: int) -> bool:
    """Return whether `phrase`, or the rest of one, begins at the word `at`."""
    if not phrase:
        return True
    part, rest = phrase[0], phrase[1:]
    for place, word in enumerate(words[at : at + part.gap + 1], at + 1):
        same = word in part.words or (part.stems and word.startswith(part.stems))
        if same and matches_at(rest, words, place):
            return True
    return part.optional and matches_at(rest, words, at)


_AFTER_RCPT = (Stage.DATA, Stage.DOT)
_ANY = "*"
_STAGES = {
    ReplyClass.MAILBOX_UNKNOWN: (Stage.RCPT,),
    ReplyClass.MAILBOX_DISABLED: (Stage.RCPT, *_AFTER_RCPT),
    ReplyClass.MAILBOX_FULL: (Stage.RCPT, *_AFTER_RCPT),
}


@dataclass(frozen=True, slots=True)
class ReplyContext:
    """The properties of a reply besides its words.

    `detail` is the enhanced code without its class, "1.1" for 5.1.1.
    """

    stage: Stage
    code: str
    detail: str
    host: str


@dataclass(frozen=True, slots=True)
class ReplyRule:
    """One rule: all its conditions must hold, and one of its phrases must occur if it has any.

    `codes` are reply codes or their beginnings, `enhanced` enhanced codes without their class
    ("1.1", "7.*", or "" for none), `hosts` the domains of servers. `source` is the
    origin of the rule.
    """

    id: str
    reply_class: ReplyClass
    source: str
    example: str = field(repr=False)
    stages: frozenset[Stage]
    codes: tuple[str, ...]
    enhanced: frozenset[str]
    hosts: tuple[str, ...]
    phrases: tuple[Phrase, ...] = field(repr=False)

    @classmethod
    def read(cls, data: Mapping[str, Any], sets: Mapping[str, Sequence[str]]) -> Self:
        """Parse one rule. Raises KeyError or ValueError for a missing, unknown or wrong value."""
        unknown = data.keys() - _KEYS
        if unknown:
            raise ValueError(f"{data['id']} has {', '.join(sorted(unknown))}")
        found = ReplyClass(data["class"])
        return cls(
            id=data["id"],
            reply_class=found,
            source=data["source"],
            example=data["example"],
            stages=frozenset(map(Stage, data.get("stages", _stages_of(found)))),
            codes=tuple(data.get("codes", ())),
            enhanced=frozenset(data.get("enhanced", ())),
            hosts=tuple(data.get("hosts", ())),
            phrases=tuple(read_phrase(text, sets) for text in data.get("words", ())),
        )

    def matches(self, reply: ReplyContext) -> bool:
        """Return whether all conditions hold but the phrases."""
        return (
            (not self.codes or reply.code.startswith(self.codes))
            and (not self.enhanced or self._has(reply.detail))
            and (not self.hosts or reply.host.endswith(self.hosts))
            and (not self.stages or reply.stage in self.stages)
        )

    def _has(self, detail: str) -> bool:
        return detail in self.enhanced or f"{detail.partition('.')[0]}.{_ANY}" in self.enhanced


_KEYS = {"id", "class", "source", "example", "stages", "codes", "enhanced", "hosts", "words"}


def _stages_of(found: ReplyClass) -> tuple[Stage, ...]:
    """Return the stages of a class without stages in its rule; none means any stage.

    Before RCPT the server does not know the recipient, and after it a server may refuse the mail
    with the words for an unknown mailbox.
    """
    return _STAGES.get(found, ())


class RuleSet:
    """Rules in their order, and an index from words to the phrases that begin with them."""

    def __init__(self, version: str, rules: Iterable[ReplyRule]) -> None:
        self.version = version
        self.rules = tuple(rules)
        self._wordless = [number for number, each in enumerate(self.rules) if not each.phrases]
        self._words: dict[str, list[tuple[int, Phrase]]] = {}
        self._stems: dict[str, list[tuple[int, Phrase]]] = {}
        for number, each in enumerate(self.rules):
            for phrase in each.phrases:
                self._add(number, phrase)

    def _add(self, number: int, phrase: Phrase) -> None:
        for word in phrase[0].words:
            self._words.setdefault(word, []).append((number, phrase))
        for stem in {stem[:STEM_CHARS] for stem in phrase[0].stems}:
            self._stems.setdefault(stem, []).append((number, phrase))

    def first(self, reply: ReplyContext, words: Sequence[str]) -> ReplyRule:
        """Return the first rule that matches. The last rule of a set has no conditions."""
        best = len(self.rules) - 1
        for at, word in enumerate(words):
            for index, key in ((self._words, word), (self._stems, word[:STEM_CHARS])):
                for number, phrase in index.get(key, ()):
                    if number >= best:
                        break
                    if matches_at(phrase, words, at) and self.rules[number].matches(reply):
                        best = number
        wordless = (number for number in self._wordless if number < best)
        return self.rules[next((n for n in wordless if self.rules[n].matches(reply)), best)]


@cache
def load_rules() -> RuleSet:
    """Load the rules of this folder."""
    folder = files(__package__).joinpath("rules")
    head = tomllib.loads(folder.joinpath("set.toml").read_text(encoding="utf-8"))
    sets = {name: list(_pieces(text)) for name, text in head["words"].items()}
    return RuleSet(
        head["version"],
        (
            ReplyRule.read(data, sets)
            for name in head["files"]
            for data in tomllib.loads(folder.joinpath(name).read_text(encoding="utf-8"))["rule"]
        ),
    )


_RULES = load_rules()  # now: at the first refusal it would block all mails for 0.1 s
# RFC 2034 4: an enhanced code stands right after the reply code or nowhere.
_ENHANCED = re.compile(r"([245])\.(\d{1,3}\.\d{1,3})(?=[\s:;,]|$)", re.ASCII)
# A server names the address that a reply is about before it says why.
_SUBJECT = re.compile(rf"(?:[245]\.\d{{1,3}}\.\d{{1,3}}\s+)?[<\[\"']*({_MAILBOX})", re.ASCII)
_PERMANENT = "550"  # a reply in a report without its code was final, and this is the usual code
_TEMPORARY = "4"


class Classification(NamedTuple):
    """The class of a reply and its rule: the rule's id @ the version of the set."""

    reply_class: ReplyClass
    rule: str


def classify(  # noqa: PLR0913 -- a reply has as many properties
    stage: Stage | None,
    code: int,
    enhanced: str | None,
    text: str,
    host: str = "",
    *,
    recipient: str = "",
) -> Classification:
    """Return the class of a refusal by the server `host`.

    Without a `stage`, as in many logs, it is a reply to RCPT. A `code` of 0 is unknown, and the
    reply is then permanent. `enhanced` may be absent though `text` begins with it. An enhanced
    code of another class than the code's is ignored (RFC 2034 4).
    """
    kind, detail = _parts_of(code, enhanced or text)
    written = str(code or (kind if kind == _TEMPORARY else _PERMANENT))
    reply = ReplyContext(stage or Stage.RCPT, written, detail, host.lower())
    found = _RULES.first(reply, words_of(text, recipient))
    meant = found.reply_class
    if meant is ReplyClass.MAILBOX_UNKNOWN and _is_about_another(text, recipient):
        meant = ReplyClass.UNDETERMINED
    return Classification(meant, f"{found.id}@{_RULES.version}")


def _is_about_another(text: str, recipient: str) -> bool:
    """Return whether a reply begins with an address that shares nothing with the recipient's.

    It is the sender's, or that of somebody to whom the recipient's mail is forwarded.
    """
    subject = _SUBJECT.match(text)
    if subject is None or not recipient:
        return False
    named = subject[1].casefold().strip(".").rpartition("@")
    meant = recipient.casefold().rpartition("@")
    return named[0] != meant[0] and named[2] != meant[2]


def _parts_of(code: int, text: str) -> tuple[str, str]:
    """Return the class and the rest of the enhanced code, "5" and "1.1"; empty if there is none."""
    found = _ENHANCED.match(text)
    if found is None or (code and int(found[1]) != code // 100):
        return "", ""
    return found[1], found[2]
