"""The length of queues, and for how long something waits at most."""

from datetime import UTC, datetime, timedelta

from services.console.queues import PURPOSES, SHARDS, QueueHistory
from shared import topology
from shared.rabbitmq import QueueState

NOW = datetime(2026, 11, 1, 8, 30, tzinfo=UTC)
BULK = "sender.bulk"
ALL = {each.name for each in topology.queues() if each.owner}
DEAD = {topology.dead_queue(each) for each in ALL}


def test_every_queue_of_a_service_is_shown() -> None:
    """A queue that is added to the topology is added to the page, with what it holds."""
    shown = {*PURPOSES, *(shard for shards in SHARDS.values() for shard in shards)}

    assert shown == ALL - DEAD


def look(**waiting: int) -> dict[str, QueueState | None]:
    """Return the states of the queues of bulk mail, with a consumer each."""
    states: dict[str, QueueState | None] = {
        name: QueueState(0, 1) for name in (BULK, *SHARDS[BULK])
    }
    return states | {
        name.replace("_", "."): QueueState(count, 1) for name, count in waiting.items()
    }


def test_nothing_is_older_than_the_time_at_which_its_queue_was_empty() -> None:
    """Of shards that wait, the one that was not empty for longest counts."""
    history = QueueHistory()
    history.add(NOW, look())
    history.add(NOW + timedelta(seconds=5), look(sender_bulk_3=7))
    history.add(NOW + timedelta(seconds=10), look(sender_bulk_3=9, sender_bulk_5=1))
    (row,) = (each for each in history.work() if each.name == BULK)

    assert (row.waiting, row.consumers) == (10, 1)
    assert row.empty_at == NOW
    assert not row.is_missing


def test_a_queue_that_was_never_empty_has_waited_for_longer() -> None:
    """The console does not claim an age that it cannot know."""
    history = QueueHistory()
    history.add(NOW, look(sender_bulk_3=7))
    (row,) = (each for each in history.work() if each.name == BULK)

    assert row.empty_at is None


def test_a_missing_queue_and_one_without_consumers_are_seen() -> None:
    """One shard without a consumer is enough: its clients' mails are not sent."""
    history = QueueHistory()
    history.add(NOW, look() | {"sender.bulk.3": QueueState(2, 0), "sender.bulk.4": None})
    (row,) = (each for each in history.work() if each.name == BULK)

    assert (row.is_missing, row.consumers) == (True, 0)
    assert history.waiting("sender.bulk.3") == 2
    assert history.waiting("sender.bulk.4") is None
