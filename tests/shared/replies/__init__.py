"""Examples of SMTP replies with their classes; addresses and hosts are reserved ones."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from shared.contracts import ReplyClass, Stage

DEVELOPMENT = "development"
HOLDOUT = "holdout"
FIELD = "field"
SURVEY = "survey"
PARTS = (DEVELOPMENT, HOLDOUT, FIELD, SURVEY)
# The halves of fresh.toml, third.toml and fourth.toml: the rules were improved on one, and scored
# on the other at the end. The whole of fifth.toml, sixth.toml and seventh.toml was held back.
# eighth.toml is not among them: version 14 was scored on it once, and no rule was made on it yet.
IMPROVED_ON, HELD_BACK, WHOLE = "improved on", "held back", "whole"
HALVES = (
    *(
        f"{name}, {which}"
        for name in ("fresh", "third", "fourth")
        for which in (IMPROVED_ON, HELD_BACK)
    ),
    f"fifth, {WHOLE}",
    f"sixth, {WHOLE}",
    f"seventh, {WHOLE}",
)


@dataclass(frozen=True, slots=True)
class Example:
    """One reply, as in a line of a log, and its class."""

    stage: Stage | None
    text: str
    reply_class: ReplyClass


def read(part: str) -> Iterator[Example]:
    """Yield one part of the corpus; a reply at an unknown stage is under `unknown`."""
    name, _, which = part.partition(", ")
    if not which:
        yield from _examples(_load(name))
        return
    for group in _load(name).values():
        yield from (each for each in _examples(group) if which in (WHOLE, half(each.text)))


def half(text: str) -> str:
    """Return the half of its set that a reply is in: its hash decides."""
    return (IMPROVED_ON, HELD_BACK)[blake2b(text.encode()).digest()[0] % 2]


def _load(name: str) -> Mapping[str, Any]:
    return tomllib.loads((Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8"))


def _examples(classes: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterator[Example]:
    for name, stages in classes.items():
        for stage, texts in stages.items():
            where = None if stage == "unknown" else Stage(stage)
            yield from (Example(where, text, ReplyClass(name)) for text in texts)
