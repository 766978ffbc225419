"""Examples of SMTP replies with their classes; addresses and hosts are reserved ones."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.contracts import ReplyClass, Stage

DEVELOPMENT = "development"
HOLDOUT = "holdout"
FIELD = "field"
SURVEY = "survey"
PARTS = (DEVELOPMENT, HOLDOUT, FIELD, SURVEY)


@dataclass(frozen=True, slots=True)
class Example:
    """One reply, as in a line of a log, and its class."""

    stage: Stage | None
    text: str
    reply_class: ReplyClass


def read(part: str) -> Iterator[Example]:
    """Yield one part of the corpus; a reply at an unknown stage is under `unknown`."""
    path = Path(__file__).parent / f"{part}.toml"
    for name, stages in tomllib.loads(path.read_text(encoding="utf-8")).items():
        for stage, texts in stages.items():
            where = None if stage == "unknown" else Stage(stage)
            for text in texts:
                yield Example(where, text, ReplyClass(name))
