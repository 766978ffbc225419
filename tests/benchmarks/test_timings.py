"""The sender's own metrics, read back."""

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from benchmarks import timings
from benchmarks.errors import BenchError
from benchmarks.timings import Timings
from ops import ports


def test_means_are_over_all_queues() -> None:
    """What a metric's labels part is added up again."""
    registry = CollectorRegistry()
    handling = Histogram("postrider_handling_seconds", "-", ("queue",), registry=registry)
    handling.labels("a").observe(1.0)
    handling.labels("b").observe(3.0)
    smtp = Histogram("postrider_smtp_transaction_seconds", "-", registry=registry)
    smtp.observe(0.5)

    assert timings.read(generate_latest(registry).decode()) == Timings(handling=2.0, smtp=0.5)


def test_nothing_measured_is_nothing() -> None:
    """A sender that sent no mail has no times."""
    assert timings.read("") == Timings(handling=0.0, smtp=0.0)


async def test_a_sender_that_is_gone_is_told_in_one_line() -> None:
    """Nobody is shown a traceback of an HTTP library."""
    with pytest.raises(BenchError, match="tells no metrics"):
        await timings.fetch(ports.unused(1)[0])
