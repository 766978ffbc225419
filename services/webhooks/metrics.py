"""The metrics of the webhooks."""

from prometheus_client import Counter, Gauge, Histogram

TRIES = Counter(
    "postrider_webhook_tries",
    "Requests to endpoints: delivered, refused (an answer that is no success), unreachable (no"
    " answer), forbidden (an address that is not public), late (not recorded: the lease was over)",
    ("end",),
)
SECONDS = Histogram(
    "postrider_webhook_seconds", "From the start of a request to an endpoint to its end"
)
LAG_SECONDS = Histogram(
    "postrider_webhook_lag_seconds",
    "From an event until an endpoint had it, of those that the first try delivered",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
)
IN_FLIGHT = Gauge("postrider_webhooks_in_flight", "Requests to endpoints under way")
DISABLED = Counter(
    "postrider_webhooks_disabled", "Endpoints that were disabled: gone, failing", ("reason",)
)
