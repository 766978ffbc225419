"""Relays of several senders, and the times of mails over all of them."""

from datetime import UTC, datetime, timedelta

from services.console.relays import GONE, SPAN, RelayHistory
from shared.contracts import Category, Latency, LatencyStep, RelaysDescribed

NOW = datetime(2026, 11, 1, 8, 30, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=3)


def answer(
    sender: str, started_at: datetime = LONG_AGO, **counts: tuple[int, int, int]
) -> RelaysDescribed:
    """Return an answer: recipients of each class within 1 s, within 5 s, and all."""
    latencies = [
        Latency(
            category=Category(name),
            steps=(
                LatencyStep(seconds=1, count=found[0]),
                LatencyStep(seconds=5, count=found[1]),
                LatencyStep(count=found[2]),
            ),
        )
        for name, found in counts.items()
    ]
    return RelaysDescribed(
        id="a-1", sender=sender, started_at=started_at, relays=(), latencies=tuple(latencies)
    )


def test_each_sender_is_shown_by_its_newest_answer() -> None:
    """The oldest sender comes first; one that is silent for a minute has gone."""
    history = RelayHistory()
    history.add(NOW, answer("gone"))
    history.add(NOW + timedelta(seconds=5), answer("new", NOW))
    history.add(NOW + timedelta(seconds=10), answer("old"))
    late = NOW + GONE + timedelta(seconds=1)
    history.add(late, answer("new", NOW))

    assert [each.answer.sender for each in history.senders()] == ["old", "new"]
    assert history.senders()[1].at == late


def test_times_are_of_the_mails_that_ended_of_late() -> None:
    """Mails that ended before the first answer count no more, over all senders together."""
    history = RelayHistory()
    history.add(NOW, answer("a", bulk=(900, 950, 1000)))
    history.add(NOW, answer("b", bulk=(0, 0, 0)))
    history.add(NOW + timedelta(seconds=5), answer("a", bulk=(940, 990, 1040)))
    history.add(NOW + timedelta(seconds=5), answer("b", bulk=(20, 59, 60)))
    (row,) = history.latencies()

    assert (row.category, row.count) == (Category.BULK, 100)
    assert list(row.bounds) == [1, 5, 5]


def test_all_mails_of_a_sender_that_is_new_count() -> None:
    """A sender that has just started has no mails of before."""
    history = RelayHistory()
    history.add(NOW, answer("a", NOW - timedelta(seconds=3), otp=(1, 1, 10)))
    (row,) = history.latencies()

    assert (row.count, list(row.bounds)) == (10, [None, None, None])


def test_without_mails_nothing_is_told() -> None:
    """A class of which no mail ended has no times."""
    history = RelayHistory()
    history.add(NOW, answer("a", otp=(5, 5, 5)))
    history.add(NOW + timedelta(seconds=5), answer("a", otp=(5, 5, 5)))
    (row,) = history.latencies()

    assert (row.count, row.bounds) == (0, [])
    assert RelayHistory().latencies() == []


def test_old_answers_are_forgotten() -> None:
    """The span moves on with the answers."""
    history = RelayHistory()
    for minutes in range(20):
        at = NOW + timedelta(minutes=minutes / 2)
        history.add(at, answer("a", bulk=(minutes, minutes, minutes)))
    history.add(NOW + SPAN + timedelta(minutes=9), answer("a", bulk=(30, 30, 30)))
    (row,) = history.latencies()

    assert row.count == 30 - 18
