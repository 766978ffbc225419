"""The metrics of the scheduler."""

from prometheus_client import Counter

RELEASED = Counter(
    "postrider_newsletters",
    "Due newsletters: published, unconfirmed, skipped as missed, unfit for their content type,"
    " failed",
    ("end",),
)
LATER = Counter(
    "postrider_scheduled_mails", "Mails for later whose time has come, by result", ("end",)
)
PAUSED = Counter(
    "postrider_content_pauses", "Content types that were paused since too many mails were reported"
)
