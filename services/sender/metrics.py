"""The metrics of the sender."""

from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from shared.runtime.metrics import SECONDS_BUCKETS

# The relay is the one that was tried last, empty without one: a mail too late, or uncertain.
_BY = ("category", "relay")

# From a tenth of a second to the four days after which bulk mail is given up.
_FINAL_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400, 345_600)

ATTEMPTS = Counter("postrider_attempts", "Mails sent to a relay", _BY)
CLAIMED = Counter(
    "postrider_claims", "Recipients of an attempt, by what was known of them", ("category", "found")
)
LOST = Counter(
    "postrider_claims_lost",
    "Recipients whose claim ran out during the attempt, by the step that was not made",
    ("category", "before"),
)
FINAL = Histogram(
    "postrider_final_seconds",
    "From the acceptance of a mail to its final outcome for a recipient",
    _BY,
    buckets=_FINAL_SECONDS,
)
OUTCOMES = Counter(
    "postrider_outcomes", "Outcomes of an attempt for a recipient", (*_BY, "outcome")
)
REFUSALS = Counter(
    "postrider_refusals",
    "Replies that refused a mail for a recipient, by class",
    (*_BY, "reply_class"),
)
POSTPONED = Counter(
    "postrider_smtp_postponed", "Mails put off because no relay may be tried", ("category",)
)
THROTTLED = Counter(
    "postrider_smtp_throttled", "Mails put off by the rate of a recipient domain", ("category",)
)
_THROTTLED = Counter("postrider_smtp_relay_throttled", "Mails put off by the rate of a relay", _BY)
_OPEN = Gauge("postrider_smtp_open", "SMTP connections open now", _BY)
_OPENED = Counter("postrider_smtp_opened", "SMTP connections opened", _BY)
_NOT_OPENED = Counter(
    "postrider_smtp_not_opened",
    "SMTP connections that could not be opened, by the stage of the failure",
    (*_BY, "stage"),
)
_CLOSED = Counter("postrider_smtp_closed", "SMTP connections closed", _BY)
_REPLACED = Counter(
    "postrider_smtp_replaced", "Kept SMTP connections found closed, dead or used up", _BY
)
_MAILS = Histogram(
    "postrider_smtp_mails_per_connection",
    "SMTP transactions over one connection until it was closed",
    _BY,
    buckets=(0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)
_TRANSACTION = Histogram(
    "postrider_smtp_transaction_seconds",
    "From the choice of a relay for a mail to its last reply, with the opening of a connection",
    _BY,
    buckets=SECONDS_BUCKETS,
)
_PIPELINED = Counter(
    "postrider_smtp_transactions",
    "SMTP transactions, by whether their commands went out in one group",
    (*_BY, "pipelined"),
)
_PIPELINING_FAILED = Counter(
    "postrider_smtp_stumbled", "Groups of commands that a relay could not cope with", _BY
)
_CHUNKED = Counter("postrider_smtp_chunked", "SMTP transactions whose content went by BDAT", _BY)
_CHUNKING_FAILED = Counter(
    "postrider_smtp_chunking_failed",
    "Times that a relay failed at BDAT, after which its mails go by DATA",
    _BY,
)
_PAUSES = Counter("postrider_smtp_rests", "Pauses of a relay that does not serve us", _BY)
_PUSHED_BACK = Counter("postrider_smtp_pushed_back", "Times that a relay asked for less", _BY)


@cache
def counter(metric: Counter, *labels: str) -> Counter:
    """Return one series of a metric; a lookup there costs five times as much as counting."""
    return metric.labels(*labels)


@cache
def histogram(metric: Histogram, *labels: str) -> Histogram:
    """Return one series of a histogram."""
    return metric.labels(*labels)


def latencies() -> Iterator[tuple[str, Sequence[tuple[float, int]]]]:
    """Yield each class and its final outcomes within so many seconds, over all relays."""
    counts: defaultdict[str, Counts[float]] = defaultdict(Counts)
    for family in FINAL.collect():
        for sample in family.samples:
            if "le" in sample.labels:
                bound = float(sample.labels["le"])
                counts[sample.labels["category"]][bound] += int(sample.value)
    for category, found in counts.items():
        yield category, sorted(found.items())


class RelayMetrics:
    """The series of one relay and one sending class."""

    def __init__(self, category: str, relay: str) -> None:
        by = (category, relay)
        self._by = by
        self._open = _OPEN.labels(*by)
        self._opened = _OPENED.labels(*by)
        self._closed = _CLOSED.labels(*by)
        self._mails = _MAILS.labels(*by)
        self._modes = {mode: _PIPELINED.labels(*by, str(mode).lower()) for mode in (False, True)}
        self.transaction = _TRANSACTION.labels(*by)
        self.replaced = _REPLACED.labels(*by)
        self.pipelining_failed = _PIPELINING_FAILED.labels(*by)
        self._chunked = _CHUNKED.labels(*by)
        self.chunking_failed = _CHUNKING_FAILED.labels(*by)
        self.pauses = _PAUSES.labels(*by)
        self.throttled = _THROTTLED.labels(*by)
        self.pushed_back = _PUSHED_BACK.labels(*by)

    def opened(self) -> None:
        """Count a connection."""
        self._open.inc()
        self._opened.inc()

    def not_opened(self, stage: str) -> None:
        """Count a connection that could not be opened."""
        _NOT_OPENED.labels(*self._by, stage).inc()

    def transacted(self, *, pipelined: bool, in_chunks: bool) -> None:
        """Count a transaction."""
        self._modes[pipelined].inc()
        if in_chunks:
            self._chunked.inc()

    def closed(self, mails: int) -> None:
        """Count a closed connection that had so many transactions."""
        self._open.dec()
        self._closed.inc()
        self._mails.observe(mails)
