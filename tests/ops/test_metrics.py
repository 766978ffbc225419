"""The page about the metrics: all of them, and no other."""

import pkgutil
import re
from importlib import import_module

from prometheus_client import REGISTRY

import services
import shared
from ops import metrics

PARTS = [
    each.name
    for package in (services, shared)
    for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if "migrations" not in each.name and not each.name.endswith("__main__")
]


def test_every_metric_is_on_the_page() -> None:
    """Who sets up an alarm finds by its name whatever a service counts, wherever that is made."""
    for part in PARTS:
        import_module(part)
    told = re.findall(r"^\| `(postrider_\w+?)(?:_total)?` ", metrics.document(), re.MULTILINE)
    ours = {each.name for each in REGISTRY.collect() if each.name.startswith("postrider_")}

    assert len(PARTS) > 100
    assert sorted(told) == sorted(ours)


def test_a_row() -> None:
    """A counter has the name that is in the text of `/metrics`, and its labels."""
    row = "| `postrider_deliveries_total` | counter | `queue`, `end` | Messages taken from "

    assert row in metrics.document()
