"""What the seam counts, for every service alike; served at `/metrics` in Prometheus' format."""

from prometheus_client import Counter, Gauge, Histogram

# From a millisecond to the ten minutes that a final dot may take (RFC 5321 4.5.3.2.6).
SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 600)

DELIVERIES = Counter(
    "postrider_deliveries", "Messages taken from a queue, by how they ended", ("queue", "end")
)
HANDLING = Histogram(
    "postrider_handling_seconds", "From delivery to acknowledgement", ("queue",), buckets=SECONDS
)
IN_FLIGHT = Gauge("postrider_in_flight", "Messages being handled now", ("queue",))
PUBLISHED = Counter(
    "postrider_published", "Messages published, by whether they were confirmed", ("exchange", "end")
)
