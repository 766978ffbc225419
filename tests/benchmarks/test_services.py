"""The services under measurement, and their metrics."""

from asyncio.subprocess import Process
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.bench import BenchError
from benchmarks.services import MeasuredService, mean, total
from ops import ports


def test_means_are_over_all_queues() -> None:
    """A mean is over all labels of a metric; a sum is over those that are named."""
    registry = CollectorRegistry()
    handling = Histogram("postrider_handling_seconds", "-", ("queue",), registry=registry)
    handling.labels("a").observe(1.0)
    handling.labels("b").observe(3.0)
    text = generate_latest(registry).decode()
    metrics = list(text_string_to_metric_families(text))

    assert mean(metrics, "postrider_handling_seconds") == 2.0
    assert total(metrics, "postrider_handling_seconds_sum") == 4.0
    assert total(metrics, "postrider_handling_seconds_sum", queue="b") == 3.0


def test_nothing_measured_is_nothing() -> None:
    """A sender that sent no mail has no times."""
    assert mean([], "postrider_handling_seconds") == 0.0


async def test_a_service_that_is_gone_is_reported_in_one_line() -> None:
    """Nobody is shown a traceback of an HTTP library."""
    [port] = ports.unused(1)
    with pytest.raises(BenchError, match="shows no metrics"):
        await MeasuredService(Mock(Process), port).metrics()
