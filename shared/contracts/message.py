"""The kinds of messages: a command, a question, an event, an answer; and the size of a body."""

from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.fields import Id, Moment

MAX_SMALL_BYTES = 64 * 1024  # of a body of short fields, with room for fields added later
# A parser makes an object of every value, and a body of four million empty lists has 12 MB: parsed
# it takes gigabytes (issue 10, A2). A report of 1,000 events has 8,000 values. Fields that a
# contract ignores are counted too.
MAX_VALUES = 50_000
_MAX_QUOTES = 4 * MAX_VALUES  # around each value and the name of its field
_GLANCE_BYTES = 256 * 1024  # at the beginning of a body, in which one of small values shows itself


class Contract(BaseModel):
    """One message: its fields, and as class variables its possible routing keys and limits."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
    keys: ClassVar[tuple[str, ...]]
    must_arrive: ClassVar[bool] = True  # refused unless a queue takes it
    max_bytes: ClassVar[int] = MAX_SMALL_BYTES  # of its JSON; a longer body is not parsed

    id: Id = Field(description="The same for every copy of this message; consumers count it once")

    @property
    def routing_key(self) -> str:
        """The key of this very message, which is also its AMQP type."""
        return self.keys[0]

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Return the message in a body of JSON. Raises ValidationError."""
        return cls.model_validate_json(body)


class Command(Contract):
    """Asks one service to act; published to `mail.commands`, refused if no queue takes it."""


class Question(Contract):
    """Asks one service for an answer; published to `mail.commands`, forgotten after a deadline."""


class OperatorQuestion(Question):
    """Asks for what only an operator may see or do; refused from any other user of the broker."""


class Event(Contract):
    """States a fact; published to `mail.events` for the queues that are bound, perhaps none."""

    must_arrive = False

    at: Moment = Field(description="When it happened")


class Answer(Contract):
    """Answers a question; sent to its asker alone."""


def check_size(body: bytes, max_bytes: int) -> None:
    """Raise ValueError for a body of more than `max_bytes`, or of more than MAX_VALUES values.

    Values are counted before they are parsed, at the speed of memory. A body that is no JSON is
    left to the parser: all values before the place where it stops are counted.
    """
    if len(body) > max_bytes:
        raise ValueError(f"must have at most {max_bytes} bytes, not {len(body)}")
    if _has_too_many_values(body[:_GLANCE_BYTES]) or _has_too_many_values(body):
        raise ValueError(f"must have at most {MAX_VALUES} values")


def _has_too_many_values(body: bytes) -> bool:
    """Count the separators outside strings: the text of a mail may have many commas."""
    if _separators(body) <= MAX_VALUES:
        return False
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    if bare.count(b'"') > _MAX_QUOTES:
        return True
    return _separators(b"".join(bare.split(b'"')[::2])) > MAX_VALUES


def _separators(body: bytes) -> int:
    """Count the characters before values: each value but the outermost has one."""
    if len(body) <= MAX_VALUES:
        return 0  # as nearly always: there are no more separators than bytes
    return len(body) - len(body.translate(None, b",[{"))
