"""What the sender counts."""

from prometheus_client import Counter, Histogram

from shared.metrics import SECONDS

OUTCOMES = Counter(
    "postrider_outcomes", "What became of a mail for a recipient", ("category", "outcome")
)
OPENED = Counter("postrider_smtp_opened", "SMTP connections opened", ("category",))
NOT_OPENED = Counter(
    "postrider_smtp_not_opened",
    "SMTP connections that could not be opened, by where it ended",
    ("category", "stage"),
)
CLOSED = Counter("postrider_smtp_closed", "SMTP connections closed", ("category",))
REPLACED = Counter(
    "postrider_smtp_replaced", "Idle SMTP connections found closed or dead", ("category",)
)
MAILS = Histogram(
    "postrider_smtp_mails_per_connection",
    "SMTP transactions over one connection until it was closed",
    ("category",),
    buckets=(0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)
TRANSACTION = Histogram(
    "postrider_smtp_transaction_seconds",
    "From the wish to send a mail to its last reply, a connection being opened included",
    ("category",),
    buckets=SECONDS,
)
