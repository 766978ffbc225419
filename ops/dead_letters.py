"""Dead letters, filtered, counted and formatted for a person. Pure."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime

from shared import dead_letter
from shared.dead_letter import DeadLetter


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """The dead letters with some ids, or with a text in their cause or reason, or all of them."""

    ids: Collection[str] = ()
    text: str | None = None
    everything: bool = False

    def matches(self, letter: DeadLetter) -> bool:
        """Return whether a dead letter is among them."""
        if self.everything or letter.delivery.message_id in self.ids:
            return True
        story = f"{letter.cause} {letter.reason}".casefold()
        return self.text is not None and self.text.casefold() in story


@dataclass(frozen=True, slots=True)
class DeadLetterGroup:
    """The dead letters of a queue with one cause and reason; times are None when unknown."""

    queue: str
    cause: str
    reason: str
    count: int
    oldest: datetime | None
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class DeadLetterTally:
    """Counts dead letters without their bodies, which may be many and large."""

    _times: dict[tuple[str, str, str], list[datetime | None]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(self, letter: DeadLetter) -> None:
        """Count a dead letter."""
        alike = (letter.delivery.queue, letter.cause, letter.reason)
        self._times[alike].append(letter.died_at)

    def groups(self) -> list[DeadLetterGroup]:
        """Return the groups, the largest of each queue first."""
        groups = [_group(*alike, times) for alike, times in self._times.items()]
        return sorted(groups, key=lambda group: (group.queue, -group.count, group.reason))


def table(groups: Sequence[DeadLetterGroup]) -> str:
    """Format groups as a table."""
    heads = ("QUEUE", "CAUSE", "REASON", "COUNT", "OLDEST", "NEWEST")
    return _columns([heads, *map(_row, groups)])


def as_json(groups: Sequence[DeadLetterGroup]) -> str:
    """Format groups as a JSON list, for programs."""
    return json.dumps([*map(asdict, groups)], default=datetime.isoformat, indent=2)


def page(letter: DeadLetter, *, body: bool) -> str:
    """Format one dead letter; `body` includes the content of mails and codes."""
    delivery = letter.delivery
    facts: Mapping[str, object] = {
        "id": delivery.message_id,
        "type": delivery.type,
        "queue": delivery.queue,
        "cause": letter.cause,
        "reason": letter.reason,
        "origin": letter.origin or "unknown, so it cannot be replayed",
        "died": letter.died_at.isoformat() if letter.died_at else "unknown",
        "attempt": delivery.attempt,
        "correlation id": delivery.correlation_id,
        **delivery.trace,
    }
    lines = _columns([(name, str(value)) for name, value in facts.items()])
    text = dead_letter.body_text(delivery.body, withhold=not body)
    return f"{lines}\n\n{_lines(text)}\n"


def _group(
    queue: str, cause: str, reason: str, times: Sequence[datetime | None]
) -> DeadLetterGroup:
    known = [time for time in times if time is not None]
    first, last = min(known, default=None), max(known, default=None)
    return DeadLetterGroup(queue, cause, reason, len(times), first, last)


def _row(group: DeadLetterGroup) -> tuple[str, ...]:
    first, last = map(_moment, (group.oldest, group.newest))
    return (group.queue, group.cause, group.reason, str(group.count), first, last)


def _moment(time: datetime | None) -> str:
    return time.isoformat(" ", "seconds") if time else "?"


def _columns(rows: Sequence[Sequence[str]]) -> str:
    rows = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _lines(text: str) -> str:
    return "\n".join(map(_printable, text.split("\n")))


def _printable(text: str) -> str:
    """Escape control characters: a dead letter must not control the terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
