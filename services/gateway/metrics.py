"""What the gateway counts of its requests, beside what the seam counts."""

from prometheus_client import Counter, Histogram

from shared.runtime.metrics import SECONDS

REQUESTS = Counter(
    "postrider_http_requests", "Requests, by route and status", ("method", "route", "status")
)
DURATION = Histogram(
    "postrider_http_request_seconds", "From headers to answer", ("route",), buckets=SECONDS
)
