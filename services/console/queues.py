"""Pure: what waits in the queues, and for how long at most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from shared import topology
from shared.contracts import Category
from shared.rabbitmq import QueueState

SAMPLE_SECONDS = 5.0  # between two looks


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue, or all shards of a class together.

    `empty_at` is when it was last seen empty: nothing in it is older. None is never so far.
    """

    name: str
    purpose: str
    waiting: int
    consumers: int
    empty_at: datetime | None
    is_missing: bool = False


QUESTIONS = (
    *(topology.GATEWAY_QUESTIONS, topology.OTP_QUESTIONS, topology.SENDER_QUESTIONS),
    *(topology.CLASSIFIER_QUESTIONS, topology.SCHEDULER_QUESTIONS, topology.LEDGER_QUESTIONS),
    topology.WEBHOOK_QUESTIONS,
)
PURPOSES: Mapping[str, str] = {
    topology.sending_queue(Category.OTP): "mails with codes, to be sent",
    topology.sending_queue(Category.TRANSACTIONAL): "transactional mails, to be sent",
    topology.sending_queue(Category.BULK): "newsletters and other bulk mail, to be sent",
    topology.OTP_COMMANDS: "codes to be made",
    topology.LEDGER_MAIL: "mails and outcomes to be recorded",
    topology.LEDGER_COMMANDS: "persons to be forgotten, lists to be repeated",
    topology.EVIDENCE: "outcomes to be counted for their domain",
    topology.SCHEDULER_MAIL: "mails for later, to be kept until they are due",
    topology.SCHEDULER_ADDRESSES: "addresses that subscriptions must know of",
    topology.SENDER_ADDRESSES: "changes of the suppression list, for the sender",
    topology.WEBHOOK_EVENTS: "events for the endpoints of clients",
    topology.WEBHOOK_COMMANDS: "persons to be forgotten by the webhooks",
    **dict.fromkeys(QUESTIONS, "questions, each for ten seconds"),
}
SHARDS: Mapping[str, Sequence[str]] = {
    topology.sending_queue(each): topology.shard_queues(each) for each in Category
}
DELAYS = tuple(topology.DELAY_EXCHANGES)  # whose queues have no consumers


class QueueHistory:
    """The last look at the queues, and when each was last seen empty."""

    def __init__(self) -> None:
        self.at: datetime | None = None
        self._states: Mapping[str, QueueState | None] = {}
        self._empty_at: dict[str, datetime] = {}

    def add(self, at: datetime, states: Mapping[str, QueueState | None]) -> None:
        """Add a look."""
        self.at, self._states = at, states
        for name, state in states.items():
            if state is not None and state.waiting == 0:
                self._empty_at[name] = at

    def work(self) -> Sequence[QueueRow]:
        """Return the queues of the services, the shards of a class together."""
        return [
            self._row(name, purpose, (name, *SHARDS.get(name, ())))
            for name, purpose in PURPOSES.items()
        ]

    def delays(self) -> QueueRow:
        """Return what waits for another attempt, in all delay queues together."""
        return self._row("delay", "messages that wait for their next attempt", DELAYS)

    def waiting(self, queue: str) -> int | None:
        """Return how many messages waited in a queue, None if it is missing."""
        state = self._states.get(queue)
        return None if state is None else state.waiting

    def _row(self, name: str, purpose: str, queues: Sequence[str]) -> QueueRow:
        states = [state for each in queues if (state := self._states.get(each)) is not None]
        full = [each for each in queues if self.waiting(each)]
        empty = [self._empty_at.get(each) for each in full]
        known = [each for each in empty if each is not None]
        return QueueRow(
            name,
            purpose,
            sum(each.waiting for each in states),
            min((each.consumers for each in states), default=0),
            min(known) if len(known) == len(full) and known else None,
            is_missing=len(states) < len(queues),
        )
