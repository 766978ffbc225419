"""Two senders beside one: what is counted, and how it is shown."""

import socket

import psutil
import pytest

from benchmarks import senders, sink
from benchmarks.bench import SQLITE, Bench, BenchPlan
from benchmarks.senders import BROKER, DATABASE, IDLE, OTHERS, PARTS, SENDERS, SINK, Shared

TOOK = {SENDERS: 4.0, BROKER: 2.0, DATABASE: 1.0, SINK: 1.0, IDLE: 0.0}


@pytest.mark.rabbit
@pytest.mark.journey
async def test_two_senders_share_a_queue(bench: Bench) -> None:
    """Each mail is sent once, and the processor time of all parts is there."""
    async with sink.serving(bench, sink.own()) as served:
        shared = await senders.drained(bench, served, BenchPlan(count=90, connections=3), SQLITE, 2)

        assert served.count() == 90

    assert shared.rate > 0
    assert set(shared.spent) == set(PARTS)
    assert shared.spent[SENDERS] > 0


def test_others_took_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two cores for ten seconds what neither the parts took nor was idle."""
    monkeypatch.setattr(senders, "_cores", lambda: 2)
    nothing = dict.fromkeys(TOOK, 0.0)

    assert senders.spent(nothing, TOOK, 10.0) == TOOK | {OTHERS: 12.0}


def test_others_are_never_less_than_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clocks of processes tick more coarsely than the wall's."""
    monkeypatch.setattr(senders, "_cores", lambda: 1)
    nothing = dict.fromkeys(TOOK, 0.0)

    assert senders.spent(nothing, TOOK, 7.9)[OTHERS] == 0.0


@pytest.mark.parametrize(("number", "cores", "most"), [(1, 2, 0.25), (2, 2, 0.25), (2, 16, 0.5)])
def test_a_sender_has_one_core(
    number: int, cores: int, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either the senders' cores are the limit, or all cores for all that a mail needs."""
    monkeypatch.setattr(senders, "_cores", lambda: cores)

    assert Shared(1.0, TOOK | {OTHERS: 99.0}, number).most == most


def test_the_table_has_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds in, microseconds out."""
    monkeypatch.setattr(senders, "_cores", lambda: 2)
    drains = [
        Shared(1.0, {name: each * scale for name, each in (TOOK | {OTHERS: 0.5}).items()}, 1)
        for scale in (1e-6, 1e-4, 9.0)
    ]

    head, line = senders.where({"one sender": drains}).splitlines()

    assert head.split()[-3:] == [IDLE, "allows", "mails/s"]
    assert line.split() == ["one", "sender", "400", "200", "100", "100", "50", "0", "2,500"]


def test_a_listener_is_found() -> None:
    """A port's process is known by the port; nobody listens on one that is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert senders.listener(port)[0] == psutil.Process()

    assert senders.listener(port) == []
    assert senders.processor([]) == 0
