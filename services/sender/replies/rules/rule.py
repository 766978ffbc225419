"""Pure: rules that tell the class of an SMTP reply, in an order, the first that fits being right.

They are data, in the TOML files of this folder. A change of theirs is a new version, which
stands in every event, so that what was counted by an older one can be counted again.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Self

from services.sender.replies.rules import phrase
from services.sender.replies.rules.phrase import STEM_CHARS, Phrase
from shared.contracts import ReplyClass, Stage

_AFTER_RCPT = (Stage.DATA, Stage.DOT)
_ANY = "*"
_TOLD_AT = {
    ReplyClass.MAILBOX_UNKNOWN: (Stage.RCPT,),
    ReplyClass.MAILBOX_DISABLED: (Stage.RCPT, *_AFTER_RCPT),
    ReplyClass.MAILBOX_FULL: (Stage.RCPT, *_AFTER_RCPT),
}


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of a reply besides its words.

    `detail` is the enhanced code without its class, "1.1" for 5.1.1.
    """

    stage: Stage
    code: str
    detail: str
    host: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: all its conditions must hold, and one of its phrases be said if it has any.

    `codes` are reply codes or their beginnings, `enhanced` enhanced codes without their class
    ("1.1", "7.*", or "" for none), `hosts` the domains of servers. `source` is who says so.
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
        """Read one rule. Raises KeyError or ValueError for what is missing, unknown or wrong."""
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
            phrases=tuple(phrase.read(text, sets) for text in data.get("words", ())),
        )

    def fits(self, reply: Circumstances) -> bool:
        """Return whether all holds that is not about words."""
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
    """Return where a class may be told if its rule does not say: anywhere, but for one.

    Before RCPT nobody knows the recipient, and after it a server may refuse the mail with the
    words for an unknown mailbox.
    """
    return _TOLD_AT.get(found, ())


class RuleSet:
    """Rules in their order, and an index from words to the phrases that begin with them."""

    def __init__(self, version: str, rules: Iterable[Rule]) -> None:
        self.version = version
        self.rules = tuple(rules)
        self._wordless = [number for number, each in enumerate(self.rules) if not each.phrases]
        self._words: dict[str, list[tuple[int, Phrase]]] = {}
        self._stems: dict[str, list[tuple[int, Phrase]]] = {}
        for number, each in enumerate(self.rules):
            for said in each.phrases:
                self._add(number, said)

    def _add(self, number: int, said: Phrase) -> None:
        for word in said[0].words:
            self._words.setdefault(word, []).append((number, said))
        for stem in {stem[:STEM_CHARS] for stem in said[0].stems}:
            self._stems.setdefault(stem, []).append((number, said))

    def first(self, reply: Circumstances, words: Sequence[str]) -> Rule:
        """Return the first rule that fits. The last rule of a set has no conditions."""
        best = len(self.rules) - 1
        for at, word in enumerate(words):
            for index, key in ((self._words, word), (self._stems, word[:STEM_CHARS])):
                for number, said in index.get(key, ()):
                    if number >= best:
                        break
                    if phrase.stands(said, words, at) and self.rules[number].fits(reply):
                        best = number
        wordless = (number for number in self._wordless if number < best)
        return self.rules[next((n for n in wordless if self.rules[n].fits(reply)), best)]


@cache
def load() -> RuleSet:
    """Read the rules that are shipped."""
    folder = files(__package__)
    head = tomllib.loads(folder.joinpath("set.toml").read_text(encoding="utf-8"))
    sets = {name: text.split() for name, text in head["words"].items()}
    return RuleSet(
        head["version"],
        (
            Rule.read(data, sets)
            for name in head["files"]
            for data in tomllib.loads(folder.joinpath(name).read_text(encoding="utf-8"))["rule"]
        ),
    )
