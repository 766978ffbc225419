"""The page of docs/ that tells what `/metrics` shows: made of the metrics themselves."""

from collections.abc import Iterator
from types import ModuleType

from prometheus_client.metrics import MetricWrapperBase

import services.gateway.metrics
import services.sender.metrics
import shared.runtime.metrics

# By what the page calls who has them.
HOMES = {
    "Every service": shared.runtime.metrics,
    "The gateway": services.gateway.metrics,
    "The sender": services.sender.metrics,
}
_ABOUT = """\
# Metrics

Each service shows its own at `/metrics`, in the format of Prometheus: the gateway on the port of
its API, the others on that of `HEALTH_PORT`. A histogram has `_bucket`, `_sum` and `_count`; all
times are in seconds. `make docs` makes this page.
"""
_TABLE = "| metric | kind | labels | what is counted |\n|---|---|---|---|"


def document() -> str:
    """Give the page, as Markdown."""
    parts = ("\n".join((f"## {who}\n", _TABLE, *_rows(home))) for who, home in HOMES.items())
    return "\n".join((_ABOUT, "\n\n".join(parts), ""))


def _rows(home: ModuleType) -> Iterator[str]:
    for metric in vars(home).values():
        if isinstance(metric, MetricWrapperBase):
            [family] = metric.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            # The library tells the labels of a metric without series nowhere else.
            labels = ", ".join(f"`{each}`" for each in metric._labelnames)  # noqa: SLF001
            yield f"| `{name}` | {family.type} | {labels} | {family.documentation} |"
