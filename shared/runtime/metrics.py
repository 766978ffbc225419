"""The metrics of every service, served at `/metrics` in the format of Prometheus."""

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

# From a millisecond to the ten minutes that a final dot may take (RFC 5321 4.5.3.2.6).
SECONDS_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 600)

DELIVERIES = Counter("postrider_deliveries", "Messages handled, by result", ("queue", "end"))
HANDLING = Histogram(
    "postrider_handling_seconds",
    "From delivery to acknowledgement",
    ("queue",),
    buckets=SECONDS_BUCKETS,
)
IN_FLIGHT = Gauge("postrider_in_flight", "Messages being handled now", ("queue",))
PUBLISHED = Counter(
    "postrider_published", "Messages published, by result: confirmed or not", ("exchange", "end")
)
CONNECTIONS = Gauge("postrider_http_connections", "HTTP connections open now, on all ports")
CONNECTIONS_REFUSED = Counter(
    "postrider_http_connections_refused",
    "HTTP connections that a limit has ended: total, address, time, headers",
    ("limit",),
)

LOG_LINES_DROPPED = Counter(
    "postrider_log_lines_dropped", "Log lines dropped because standard output was not read"
)


class QueueMetrics:
    """The metrics of one queue; to look a counter up costs more than to count."""

    def __init__(self, queue: str, in_flight: Callable[[], float]) -> None:
        self._queue = queue
        self._seconds = HANDLING.labels(queue)
        self._results: dict[str, Counter] = {}
        IN_FLIGHT.labels(queue).set_function(in_flight)

    def handled(self, result: str, seconds: float) -> None:
        """Count a delivery by the result of its handling, which took so long."""
        self._seconds.observe(seconds)
        if result not in self._results:
            self._results[result] = DELIVERIES.labels(self._queue, result)
        self._results[result].inc()
