"""Messages that wait: in their order, whole, and within a bound of memory."""

import os
from pathlib import Path
from typing import IO

import pytest

from shared import backlog as module
from shared.backlog import Backlog, Spool
from shared.delivery import Delivery
from tests.shared.messages import KIND, QUEUE
from tests.shared.ticket import Ticket


def message(name: str, body: bytes) -> Delivery:
    """Return a delivery."""
    return Delivery(QUEUE, KIND, body, name, name, None, 1, {})


def put(backlog: Backlog, *bodies: bytes) -> list[Ticket]:
    """Append messages."""
    tickets = [Ticket() for _ in bodies]
    for number, (body, ticket) in enumerate(zip(bodies, tickets, strict=True)):
        backlog.append(message(f"m{number}", body), ticket)
    return tickets


@pytest.mark.parametrize("room", [0, 5, 9, 10, 1000])
def test_all_come_back_as_they_were(room: int) -> None:
    """The order, the bodies and the receipts are the same, however many are on disk."""
    bodies = [bytes([number]) * number for number in range(10)]
    backlog = Backlog(room)
    tickets = put(backlog, *bodies)

    assert (len(backlog), backlog.first_size) == (10, 0)
    came = [backlog.popleft() for _ in bodies]
    assert [(each.message_id, each.body) for each, _ in came] == [
        (f"m{number}", body) for number, body in enumerate(bodies)
    ]
    assert [receipt for _, receipt in came] == tickets
    assert not backlog


def test_room_is_used_again() -> None:
    """A message that has left makes room in memory for the next."""
    backlog = Backlog(room=4)
    put(backlog, b"abcd", b"efgh")
    backlog.popleft()
    put(backlog, b"ijkl")

    assert [each.place for each in backlog._waiting] == [0, None]
    assert len(backlog.clear()) == 2


def test_what_is_left_to_the_broker_is_named() -> None:
    """Cleared, it is as new, and its file is gone."""
    backlog = Backlog(room=1)
    tickets = put(backlog, b"a", b"bc", b"d")

    assert backlog.clear() == tickets
    assert not backlog
    put(backlog, b"e")
    assert backlog.popleft()[0].body == b"e"


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
    backlog = Backlog(room=0)
    put(backlog, b"abc")

    assert backlog.popleft()[0].body == b"abc"
