"""Precision and recall of the classes on the examples: `python -m tests.shared.score [-v]`.

Precision is the share of what was called a class that is of it, recall the share of what is of a
class that was called so.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ops import classify
from shared.contracts import ReplyClass
from tests.shared import replies
from tests.shared.replies import Example

RECIPIENT = "anna@x.example"  # in all examples


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of pairs of the true class and the class found."""

    pairs: Counter[tuple[ReplyClass, ReplyClass]]

    def precision(self, of: ReplyClass) -> float:
        """Return the precision of a class; 1 if it was never found."""
        called = sum(n for (_, told), n in self.pairs.items() if told is of)
        return self.pairs[of, of] / called if called else 1.0

    def recall(self, of: ReplyClass) -> float:
        """Return the recall of a class; 1 if it has no example."""
        there = sum(n for (true, _), n in self.pairs.items() if true is of)
        return self.pairs[of, of] / there if there else 1.0

    @property
    def right(self) -> float:
        """The share of right classes among all."""
        right = sum(n for (true, told), n in self.pairs.items() if true is told)
        return right / self.pairs.total()

    def macro(self) -> tuple[float, float]:
        """Return mean precision and mean recall over the classes but `undetermined`."""
        telling = [each for each in ReplyClass if each is not ReplyClass.UNDETERMINED]
        return (
            sum(map(self.precision, telling)) / len(telling),
            sum(map(self.recall, telling)) / len(telling),
        )


def told(example: Example) -> classify.ClassifiedReply:
    """Classify one example as `ops classify` does; words that no rule knows are undetermined."""
    try:
        return classify.classify_line(example.text, example.stage, recipient=RECIPIENT)
    except classify.NoRefusalError:
        return classify.ClassifiedReply(
            example.text, example.stage, 0, ReplyClass.UNDETERMINED, "none", ""
        )


def score(examples: Iterable[Example]) -> Score:
    """Classify all examples and count."""
    return Score(
        Counter((each.reply_class, ReplyClass(told(each).reply_class)) for each in examples)
    )


def report(part: str) -> str:
    """Return a table of the classes, and a line for each mistake."""
    examples = list(replies.read(part))
    found = score(examples)
    lines = [f"{part}: {len(examples)} replies, {found.right:.3f} right"]
    lines += [
        f"  {each:17} precision {found.precision(each):.3f}  recall {found.recall(each):.3f}"
        for each in ReplyClass
    ]
    lines.append("  mean of all but the last {:.3f} {:.3f}".format(*found.macro()))
    for each in examples:
        answer = told(each)
        if answer.reply_class != each.reply_class:
            where = each.stage or "unknown"
            lines.append(
                f"  {each.reply_class}: called {answer.reply_class} by {answer.rule}, {where}: "
                f"{each.text!r}"
            )
    return "\n".join(lines)


def main() -> int:
    """Print the report."""
    for part in (*replies.PARTS, *replies.HALVES):
        print(report(part))  # noqa: T201 -- a command line prints
    return 0


if __name__ == "__main__":
    sys.exit(main())
