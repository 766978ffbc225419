"""Pure: phrases, the words by which a rule knows a reply, and the words of a reply.

A phrase is written as words with blanks between. `a|b` is either of two words, `block*` any word
that begins so, `$user` any word of a named set, `?` behind a word makes it one that may be missing.
`..` leaves room for up to three words in between, `...` for up to eight. A phrase begins with a
word that may not be missing, and what begins a word has at least three letters.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

STEM_CHARS = 3
_GAPS = {"..": 3, "...": 8}

_ADDRESS = re.compile(r"[^\s<>()\"',;:\[\]=]+@[^\s<>()\"',;:\[\]]+|<[^<>\s/]*>")
# Chinese, Japanese and Korean have no blanks between words: there a sign is a word. Korean is
# taken apart by NFKD.
_SIGN = re.compile(r"([\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff])")
_MARKS = re.compile(r"[\u0300-\u036f]")
# Two words or one, as people like; `doesn't` is one.
_COMPOUND = re.compile(
    r"\b(e(?=[ -]mail)|mail(?=[ -]box)|over(?=[ -]quota)|look(?=[ -]up\b)|time(?=[ -]out\b)"
    r"|(?:black|block|white|grey|gray|allow|deny|safe)(?=[ -]list))[ -]"
)
_NOT = re.compile(r"n['\u2019`\u00b4]t\b")
# Numbers below 1000 are reply codes, parts of IP addresses and counts, and stand in the way.
# qmail writes enhanced codes as (#5.1.1).
_WORD = re.compile(r"#[245]\.\d{1,3}\.\d{1,3}(?![.\d])|\d*[^\W\d]\w*|\d{4,}|0\d+")


def words_of(text: str, recipient: str = "") -> list[str]:
    """Return the words of a reply in lower case, without accents and without mail addresses.

    An address, above all the recipient's own, may have any word in it and says nothing.
    """
    if recipient:
        text = re.sub(re.escape(recipient), " ", text, flags=re.IGNORECASE)
    if "@" in text or "<" in text:
        text = _ADDRESS.sub(" ", text)
    text = text.casefold()
    if not text.isascii():
        text = _SIGN.sub(r" \1 ", _MARKS.sub("", unicodedata.normalize("NFKD", text)))
    return _WORD.findall(_COMPOUND.sub(r"\1", _NOT.sub("nt", text)))


@dataclass(frozen=True, slots=True)
class Part:
    """One word of a phrase: what it may be, and how many words may stand before it."""

    words: frozenset[str]
    stems: tuple[str, ...]
    gap: int = 0
    optional: bool = False

    @classmethod
    def read(cls, text: str, gap: int, sets: Mapping[str, Sequence[str]]) -> Self:
        """Read one word. Raises ValueError when it names no set, or says too little."""
        optional, choices = text.endswith("?"), list[str]()
        for choice in text.removesuffix("?").split("|"):
            choices += sets[choice[1:]] if choice.startswith("$") else [choice]
        stems = tuple(each[:-1] for each in choices if each.endswith("*"))
        if not all(choices) or any(len(stem) < STEM_CHARS for stem in stems):
            raise ValueError(f"{text} says too little")
        words = frozenset(each for each in choices if not each.endswith("*"))
        return cls(words, stems, gap, optional)


Phrase = tuple[Part, ...]


def read(text: str, sets: Mapping[str, Sequence[str]]) -> Phrase:
    """Read a phrase. Raises ValueError or KeyError when it is not well formed."""
    parts, gap = list[Part](), 0
    for item in _pieces(text):
        if item in _GAPS:
            gap = _GAPS[item]
        else:
            parts.append(Part.read(item, gap, sets))
            gap = 0
    if not parts or gap or parts[0].gap or parts[0].optional:
        raise ValueError(f"{text!r} has no beginning or no end")
    return tuple(parts)


def _pieces(text: str) -> Iterable[str]:
    """Return the words of a phrase as they are in `words_of`, so that 存在 is two of them."""
    text = unicodedata.normalize("NFKD", text.casefold())
    return _SIGN.sub(r" \1 ", _MARKS.sub("", text)).split()


def stands(phrase: Phrase, words: Sequence[str], at: int) -> bool:
    """Return whether `phrase`, or what is left of one, is said at `at`."""
    if not phrase:
        return True
    part, rest = phrase[0], phrase[1:]
    for place, word in enumerate(words[at : at + part.gap + 1], at + 1):
        taken = word in part.words or (part.stems and word.startswith(part.stems))
        if taken and stands(rest, words, place):
            return True
    return part.optional and stands(rest, words, at)
