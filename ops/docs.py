"""`make docs`: write the contracts, the API and the metrics into docs/."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from prometheus_client.metrics import MetricWrapperBase

import services.gateway.api.feedback
import services.gateway.middleware
import services.inbound.metrics
import services.otp.codes
import services.scheduler.metrics
import services.sender.metrics
import services.webhooks.metrics
import shared.runtime.metrics
from ops import asyncapi
from services.gateway.api import openapi
from services.gateway.app import OPERATIONS
from shared.contracts import CONTRACTS, Contract

DOCS = Path(__file__).parent.parent / "docs"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
# By the heading of their section.
HOMES = {
    "Every service": shared.runtime.metrics,
    "The gateway": services.gateway.middleware,
    "Providers' webhooks": services.gateway.api.feedback,
    "Inbound": services.inbound.metrics,
    "The sender": services.sender.metrics,
    "Codes": services.otp.codes,
    "Newsletters and mail for later": services.scheduler.metrics,
    "Webhooks": services.webhooks.metrics,
}
_ABOUT = """\
# Metrics

Each service shows its own at `/metrics`, in the format of Prometheus: the gateway on the port of
its API, the others on that of `HEALTH_PORT`. A histogram has `_bucket`, `_sum` and `_count`; all
times are in seconds. `make docs` makes this page.
"""
_TABLE = "| metric | kind | labels | what is counted |\n|---|---|---|---|"


def documents() -> Mapping[str, str]:
    """Return the text of every generated file by its path under docs/."""
    found: dict[str, object] = {path_of(each): _schema(each) for each in CONTRACTS}
    found["asyncapi.json"] = asyncapi.document()
    found["openapi.json"] = openapi.document(OPERATIONS)
    texts = {
        path: f"{json.dumps(each, indent=2, ensure_ascii=False)}\n" for path, each in found.items()
    }
    return {**texts, "metrics.md": document()}


def path_of(contract: type[Contract]) -> str:
    """Return the path of a contract's JSON Schema."""
    return f"contracts/{contract.__name__}.schema.json"


def left_over(folder: Path) -> list[Path]:
    """Return the schemas in `folder` whose contract does not exist any more."""
    return sorted({*folder.glob("contracts/*.json")} - {folder / path for path in documents()})


def main(folder: Path = DOCS) -> int:
    """Write all of them, and remove the schemas without a contract."""
    (folder / "contracts").mkdir(parents=True, exist_ok=True)
    for path, text in documents().items():
        (folder / path).write_text(text, encoding="utf-8")
    for stale in left_over(folder):
        stale.unlink()
    return 0


def _schema(contract: type[Contract]) -> dict[str, object]:
    return {"$schema": _DIALECT, **contract.model_json_schema()}


def document() -> str:
    """Return the page about the metrics, as Markdown."""
    parts = (
        "\n".join((f"## {heading}\n", _TABLE, *_rows(home))) for heading, home in HOMES.items()
    )
    return "\n".join((_ABOUT, "\n\n".join(parts), ""))


def _rows(home: ModuleType) -> Iterator[str]:
    for metric in vars(home).values():
        if isinstance(metric, MetricWrapperBase):
            [family] = metric.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            # The library has no public way to read the labels of a metric without series.
            labels = ", ".join(f"`{each}`" for each in metric._labelnames)  # noqa: SLF001
            yield f"| `{name}` | {family.type} | {labels} | {family.documentation} |"


if __name__ == "__main__":
    sys.exit(main())
