"""The kinds of messages: a command, a question, an event, an answer."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from shared.fields import Id, Moment

SMALL_BYTES = 64 * 1024  # of a body of some short fields, with room for those that are added later


class Contract(BaseModel):
    """One message: its fields, and as class variables the routing keys it may travel under."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
    keys: ClassVar[tuple[str, ...]]
    must_arrive: ClassVar[bool] = True  # refused unless a queue takes it
    max_bytes: ClassVar[int] = SMALL_BYTES  # of its JSON; a longer body is not parsed

    id: Id = Field(description="The same for every copy of this message; consumers count it once")

    @property
    def routing_key(self) -> str:
        """The key of this very message, which is also its AMQP type."""
        return self.keys[0]


class Command(Contract):
    """Asks one service to do something; published to `mail.commands`, refused if nobody would."""


class Question(Contract):
    """Asks one service for an answer; published to `mail.commands`, forgotten after a deadline."""


class Event(Contract):
    """States a fact; published to `mail.events` for whoever binds, perhaps nobody."""

    must_arrive = False

    at: Moment = Field(description="When it happened")


class Answer(Contract):
    """Answers a question; goes to the asker alone."""
