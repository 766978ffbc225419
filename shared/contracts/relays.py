"""Relays, as a sender uses them: connections, limits, circuits, rates, and the time of mails."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.fields import MAX_COUNT, Count, Id, Moment, Seconds, ShortText
from shared.contracts.mail import Category
from shared.contracts.message import Answer, Question

MAX_RELAYS = 300  # of one sender, each once for every class
MAX_STEPS = 100  # of a distribution


class CircuitState(StrEnum):
    """The state of the circuit breaker of a relay."""

    CLOSED = "closed"  # mails go to it
    OPEN = "open"  # it failed, and gets none for a while
    PROBING = "probing"  # its pause is over: the next mail shows whether it works again


class RelayState(BaseModel):
    """A relay as one sender uses it for one sending class."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    relay: ShortText
    category: Category
    idle: Count = Field(description="Open SMTP connections without a mail")
    busy: Count = Field(description="SMTP connections on which a mail is under way")
    opening: Count
    mails: Count = Field(description="That have a place at it now, some waiting for a connection")
    limit: Count = Field(description="Of mails at a time, as the relay bears them now")
    max_connections: Count = Field(description="The setting, which the limit does not exceed")
    circuit: CircuitState
    pause_seconds: Seconds = Field(0.0, description="Until it is tried again")
    failures: Count = Field(description="In a row")
    rate: float | None = Field(
        None,
        ge=0,
        le=MAX_COUNT,
        description="The setting: mails a second, over all senders; no limit if absent",
    )


class LatencyStep(BaseModel):
    """The recipients whose final outcome came within so many seconds of the acceptance."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    seconds: Seconds | None = Field(None, description="Absent for all, however long it took")
    count: Count


class Latency(BaseModel):
    """The time from the acceptance of a mail to its final outcome, since a sender's start."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    category: Category
    steps: Annotated[tuple[LatencyStep, ...], Field(max_length=MAX_STEPS)]


class DescribeRelays(Question):
    """Asks one sender for its relays; of several senders, another one answers each time."""

    keys = ("relay.describe",)


class RelaysDescribed(Answer):
    """Answers with the relays of one sender, by class, and the times of its mails."""

    keys = ("relay.described",)
    max_bytes = 512 * 1024

    sender: Id = Field(description="Of this process; another one after a restart")
    started_at: Moment
    relays: tuple[RelayState, ...] = Field(max_length=MAX_RELAYS)
    latencies: tuple[Latency, ...] = Field(max_length=len(Category))
