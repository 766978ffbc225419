"""The metrics of the report door and of the submission door."""

from prometheus_client import Counter, Gauge, Histogram

from shared.runtime.metrics import SECONDS_BUCKETS

RECEIVED = Counter(
    "postrider_inbound_mails",
    "Mails to return paths, by kind: dsn, arf, automatic, unreadable, other",
    ("kind",),
)
REPORTS = Counter(
    "postrider_inbound_reports",
    "Reports by what became of them: the kind that was published, unknown (the ledger has no such "
    "mail), ignored (it states nothing that counts)",
    ("end",),
)
REFUSED = Counter(
    "postrider_inbound_refused",
    "Mails and recipients refused, by the reason",
    ("reason",),
)
REPORT_CONNECTIONS = Gauge(
    "postrider_inbound_connections", "SMTP connections of the report door that are open now"
)
REPORT_CONNECTIONS_REFUSED = Counter(
    "postrider_inbound_connections_refused",
    "SMTP connections of the report door that a limit has refused: total, address",
    ("limit",),
)
KEPT = Gauge("postrider_inbound_kept", "Mails kept because they were not understood")
READING = Histogram(
    "postrider_inbound_reading_seconds", "Reading one mail, with its wait", buckets=SECONDS_BUCKETS
)
READERS_ENDED = Counter(
    "postrider_inbound_readers_ended", "Processes ended by a mail that took too much"
)

SUBMISSION_CONNECTIONS = Gauge(
    "postrider_submission_connections", "SMTP connections of the submission door that are open now"
)
SUBMISSION_CONNECTIONS_REFUSED = Counter(
    "postrider_submission_connections_refused",
    "SMTP connections of the submission door that a limit has refused: total, address",
    ("limit",),
)
LOGINS = Counter("postrider_submission_logins", "Logins, by their end", ("end",))
HANDED_OVER = Counter("postrider_submission_mails", "Mails handed over, by the reply", ("reply",))
ACCEPTING = Histogram(
    "postrider_submission_accepting_seconds",
    "From the final dot to the reply",
    buckets=SECONDS_BUCKETS,
)
