"""The metrics of inbound."""

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
CONNECTIONS = Gauge("postrider_inbound_connections", "SMTP connections open now")
CONNECTIONS_REFUSED = Counter(
    "postrider_inbound_connections_refused",
    "SMTP connections that a limit has refused: total, address",
    ("limit",),
)
KEPT = Gauge("postrider_inbound_kept", "Mails kept because they were not understood")
READING = Histogram(
    "postrider_inbound_reading_seconds", "Reading one mail, with its wait", buckets=SECONDS_BUCKETS
)
READERS_ENDED = Counter(
    "postrider_inbound_readers_ended", "Processes ended by a mail that took too much"
)
