"""Messages that wait: in their order, whole, and within a bound of memory."""

import io
import os
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from shared import backlog as module
from shared.backlog import Backlog, FairQueue, Spool
from shared.delivery import Delivery
from shared.inflight import DeliveryTag
from tests.shared.messages import KIND, QUEUE
from tests.shared.tag import RecordingTag


def message(name: str, body: bytes, queue: str = QUEUE) -> Delivery:
    """Return a delivery."""
    return Delivery(queue, KIND, body, name, name, None, 1, {})


def put(backlog: Backlog, *bodies: bytes) -> list[bool]:
    """Bring messages; return for each whether it may be handled now."""
    return [backlog.admit(message("m", body), RecordingTag()) for body in bodies]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count each body of more than a byte as large."""
    monkeypatch.setattr(module, "MAX_SMALL_BYTES", 1)


@pytest.mark.parametrize("room", [1, 5, 9, 10, 1000])
def test_all_come_back_as_they_were(room: int) -> None:
    """The order, the bodies and the tags are the same, however many wait on disk."""
    bodies = [bytes([number]) * number for number in range(2, 12)]
    backlog, came = Backlog(room), list[tuple[Delivery, object]]()
    given = [(message(f"m{len(body)}", body), RecordingTag()) for body in bodies]
    running: list[tuple[Delivery, DeliveryTag]] = [each for each in given if backlog.admit(*each)]
    assert sum(len(each.body) for each, _ in running) <= max(room, 2)
    while running:
        ended, tag = running.pop(0)
        came.append((ended, tag))
        running += backlog.leave(len(ended.body))

    assert came == given


def test_a_small_body_does_not_wait() -> None:
    """It neither counts nor waits: a code does not wait for an attachment."""
    backlog = Backlog(room=2)

    assert put(backlog, b"ab", b"c", b"de", b"f") == [True, True, False, True]
    assert list(backlog.leave(1)) == []
    assert len(backlog.clear()) == 1


def test_one_body_alone_always_has_room() -> None:
    """A body larger than all the room is handled, alone."""
    backlog = Backlog(room=2)

    assert put(backlog, b"abcd", b"ef", b"gh") == [True, False, False]
    assert [each.body for each, _ in backlog.leave(4)] == [b"ef"]
    assert len(backlog.clear()) == 1


def test_a_large_body_is_not_passed_by_smaller_ones() -> None:
    """The next large body waits behind it, or a steady stream of them would hold it for ever."""
    backlog = Backlog(room=5)

    assert put(backlog, b"abc", b"defg", b"hi") == [True, False, False]
    assert [each.body for each, _ in backlog.leave(3)] == [b"defg"]
    assert [each.body for each, _ in backlog.leave(4)] == [b"hi"]


def test_a_lost_delivery_is_not_begun() -> None:
    """The broker delivers it again, on another channel; the next one has its room."""
    backlog, lost = Backlog(room=2), RecordingTag()
    put(backlog, b"ab")
    assert not backlog.admit(message("lost", b"cd"), lost)
    put(backlog, b"ef")
    lost.void = True

    assert [each.body for each, _ in backlog.leave(2)] == [b"ef"]


def test_clearing_returns_the_tags_of_all_that_wait() -> None:
    """Cleared, it gives the tags of all that wait, and its file is gone."""
    backlog, tags = Backlog(room=2), [RecordingTag(), RecordingTag()]
    put(backlog, b"ab")
    for tag in tags:
        assert not backlog.admit(message("m", b"cd"), tag)

    assert backlog.clear() == tags
    assert list(backlog.leave(2)) == []


def test_places_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has as many places as bodies were in it at once, and none when all have left."""
    monkeypatch.setattr(module, "PLACE_BYTES", 8)
    spool = Spool()
    first, second = spool.put(b"first"), spool.put(b"second")
    assert spool.take(first, 5) == b"first"
    assert spool.put(b"third") == first
    assert size_of(spool) == 14

    assert (spool.take(second, 6), spool.take(first, 5)) == (b"second", b"third")
    assert size_of(spool) == 0
    assert spool.put(b"again") == 0
    spool.close()
    assert size_of(spool) == 0


def size_of(spool: Spool) -> int:
    """Return the size of the file, if there is one."""
    file: IO[bytes] | None = spool._file
    return 0 if file is None else os.fstat(file.fileno()).st_size


def test_a_full_disk_keeps_it_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A message is not lost for want of a place."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    backlog = Backlog(room=2)
    put(backlog, b"ab", b"cde")

    assert [each.body for each, _ in backlog.leave(2)] == [b"cde"]


class BrokenDisk(io.BytesIO):
    """A file that takes every body and returns some of none."""

    def __init__(self, failure: OSError | None) -> None:
        super().__init__()
        self._failure = failure

    def read(self, _: int | None = -1) -> bytes:
        """Fail, or return less than was written."""
        if self._failure is not None:
            raise self._failure
        return b""


@pytest.mark.parametrize(
    "failure", [OSError(5, "input/output error"), None], ids=["error", "short"]
)
def test_a_body_that_the_disk_does_not_return_goes_back(
    monkeypatch: pytest.MonkeyPatch, failure: OSError | None
) -> None:
    """Its message is requeued, with a log line, and the messages behind it have their turn."""
    disks = [BrokenDisk(failure)]
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: disks.pop() if disks else io.BytesIO())
    backlog, lost = Backlog(room=2), RecordingTag()
    put(backlog, b"ab")
    assert not backlog.admit(message("lost", b"cd"), lost)
    with capture_logs() as logs:
        assert list(backlog.leave(2)) == []

    assert lost.settled == ["requeue"]
    assert [(each["log_level"], each["event"]) for each in logs] == [
        ("error", "requeued: the disk does not return its body")
    ]
    assert put(backlog, b"ef", b"gh") == [True, False]
    assert [each.body for each, _ in backlog.leave(2)] == [b"gh"]


def names(backlog: Backlog, *sizes: int) -> list[str]:
    """Return the names of the messages that follow as bodies of these sizes leave."""
    return [each.message_id for size in sizes for each, _ in backlog.leave(size)]


def test_places_bound_the_messages_of_all_queues() -> None:
    """No more messages are handled at a time than there are places, whatever queues they are of."""
    backlog, running = Backlog(places=3), 0
    for number in range(12):
        running += backlog.admit(message(f"m{number}", b"a", f"q{number % 4}"), RecordingTag())
    assert running == 3

    assert [len(names(backlog, 1)) for _ in range(12)] == [1] * 9 + [0] * 3
    assert [backlog.admit(message("m", b"a"), RecordingTag()) for _ in range(4)] == [
        *[True] * 3,
        False,
    ]


def test_queues_are_served_in_turn() -> None:
    """The first message of one queue waits for one of each other queue, not for all of them."""
    backlog = Backlog(places=1)
    for number in range(5):
        backlog.admit(message(f"a{number}", b"a", "a"), RecordingTag())
    for name in ("b0", "c0", "b1"):
        assert not backlog.admit(message(name, b"a", name[0]), RecordingTag())

    assert names(backlog, *[1] * 7) == ["a1", "b0", "c0", "a2", "b1", "a3", "a4"]


def test_a_large_body_without_room_holds_no_place() -> None:
    """Small bodies pass it, also those of its own queue; a large one of another queue does not."""
    backlog = Backlog(room=4, places=2)
    for name, body in (("a0", b"aaa"), ("a1", b"a"), ("a2", b"aa"), ("b0", b"bb"), ("a3", b"a")):
        backlog.admit(message(name, body, name[0]), RecordingTag())

    assert names(backlog, 1) == ["a3"]
    assert names(backlog, 1) == []
    assert names(backlog, 3) == ["a2", "b0"]


def test_small_bodies_that_wait_have_a_bound_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies beyond MAX_WAITING_BYTES wait on disk, however small they are."""
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 2)
    backlog = Backlog(places=1)
    for number in range(6):
        backlog.admit(message(f"m{number}", b"a"), RecordingTag())
    assert size_of(backlog._spool) > 0

    assert [(each.message_id, each.body) for _ in range(5) for each, _ in backlog.leave(1)] == [
        (f"m{number}", b"a") for number in range(1, 6)
    ]
    assert size_of(backlog._spool) == 0


def test_a_lost_delivery_takes_no_place() -> None:
    """The broker delivers it again; the place goes to the next message."""
    backlog, lost = Backlog(places=1), RecordingTag()
    backlog.admit(message("a0", b"a"), RecordingTag())
    backlog.admit(message("a1", b"a"), lost)
    backlog.admit(message("a2", b"a"), RecordingTag())
    lost.void = True

    assert names(backlog, 1) == ["a2"]


FLOWS = st.lists(st.integers(0, 4), max_size=60)


def popped(queue: FairQueue[tuple[int, int]]) -> list[tuple[int, int]]:
    """Remove all items."""
    items = []
    while (item := queue.pop()) is not None:
        items.append(item)
    return items


def test_a_new_flow_waits_for_one_round() -> None:
    """One item of each other flow goes before the first item of a new one, however many wait."""
    queue: FairQueue[str] = FairQueue()
    for number in range(1000):
        queue.push("a", f"a{number}")
    assert [queue.pop(), queue.pop()] == ["a0", "a1"]
    queue.push("b", "b0")

    assert [queue.pop(), queue.pop(), queue.pop()] == ["a2", "b0", "a3"]


def test_a_flow_may_be_none() -> None:
    """Mails of no client are a flow as well."""
    queue: FairQueue[str] = FairQueue()
    queue.push(None, "of none")

    assert queue.pop() == "of none"
    assert queue.pop() is None


@given(FLOWS)
def test_each_flow_keeps_its_order_and_loses_nothing(flows: list[int]) -> None:
    """All items come out once, those of one flow in the order in which they came."""
    queue: FairQueue[tuple[int, int]] = FairQueue()
    for number, flow in enumerate(flows):
        queue.push(flow, (flow, number))
    found = defaultdict(list)
    for flow, number in popped(queue):
        found[flow].append(number)

    assert not queue
    assert all(numbers == sorted(numbers) for numbers in found.values())
    assert Counter(flows) == {flow: len(numbers) for flow, numbers in found.items()}


@given(FLOWS)
def test_no_flow_is_ahead_by_more_than_one(flows: list[int]) -> None:
    """While two flows have items, neither gets two items between two of the other."""
    queue: FairQueue[tuple[int, int]] = FairQueue()
    for number, flow in enumerate(flows):
        queue.push(flow, (flow, number))
    left, order = Counter(flows), [flow for flow, _ in popped(queue)]
    for before, after in pairwise(order):
        left[before] -= 1
        assert before != after or not any(left[flow] for flow in left if flow != before)


def test_a_flow_that_is_passed_over_keeps_its_turn() -> None:
    """An item that cannot go now goes before the next round as soon as it can."""
    queue: FairQueue[str] = FairQueue()
    for item in ("a0", "b0", "c0", "b1"):
        queue.push(item[0], item)

    assert queue.pop(lambda item: item != "a0") == "b0"
    assert queue.pop() == "a0"
    assert queue.pop(lambda _: False) is None
    assert queue.clear() == ["c0", "b1"]
    assert not queue
