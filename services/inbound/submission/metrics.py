"""The metrics of the submission door."""

from prometheus_client import Counter, Gauge, Histogram

from shared.runtime.metrics import SECONDS_BUCKETS

CONNECTIONS = Gauge("postrider_submission_connections", "SMTP connections open now")
CONNECTIONS_REFUSED = Counter(
    "postrider_submission_connections_refused",
    "SMTP connections that a limit has refused: total, address",
    ("limit",),
)
LOGINS = Counter("postrider_submission_logins", "Logins, by their end", ("end",))
HANDED_OVER = Counter("postrider_submission_mails", "Mails handed over, by the reply", ("reply",))
ACCEPTING = Histogram(
    "postrider_submission_accepting_seconds",
    "From the final dot to the reply",
    buckets=SECONDS_BUCKETS,
)
