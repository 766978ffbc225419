"""What the seam counts, for every service alike; served at `/metrics` in Prometheus' format."""

from prometheus_client import Counter, Gauge, Histogram

# From a millisecond to the ten minutes that a final dot may take (RFC 5321 4.5.3.2.6).
SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 600)

DELIVERIES = Counter(
    "postrider_deliveries", "Messages taken from a queue, by how they ended", ("queue", "end")
)
HANDLING = Histogram(
    "postrider_handling_seconds",
    "From delivery to acknowledgement; a batch counts once",
    ("queue",),
    buckets=SECONDS,
)
IN_FLIGHT = Gauge("postrider_in_flight", "Messages being handled now", ("queue",))
PUBLISHED = Counter(
    "postrider_published", "Messages published, by whether they were confirmed", ("exchange", "end")
)
CONNECTIONS = Gauge("postrider_http_connections", "HTTP connections open now, on all ports")
CONNECTIONS_REFUSED = Counter(
    "postrider_http_connections_refused",
    "HTTP connections that a limit has ended: total, address, time, headers",
    ("limit",),
)

LOG_LINES_DROPPED = Counter(
    "postrider_log_lines_dropped", "Log lines lost because nobody read standard output"
)


class Handling:
    """What is counted of one queue; to look a counter up costs more than to count."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._seconds = HANDLING.labels(queue)
        self._ends: dict[str, Counter] = {}
        self.in_flight = IN_FLIGHT.labels(queue)

    def ended(self, end: str, seconds: float, count: int = 1) -> None:
        """Count `count` deliveries that ended, `seconds` after they were taken up."""
        if end not in self._ends:
            self._ends[end] = DELIVERIES.labels(self._queue, end)
        self._ends[end].inc(count)
        self._seconds.observe(seconds)
