"""ops/monitoring: rules and panels name metrics that there are, and each alert has its section."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from ops.docs import HOMES
from shared.contracts import Category, ReplyClass
from shared.topology import MAX_WAITING, Owner
from tests.modules import ROOT
from tests.pages import anchors

FOLDER = ROOT / "ops" / "monitoring"
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0][
    "rules"
]
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana" / "postrider.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
OF_TARGETS = {"job", "instance", "service"}  # labels that Prometheus adds: see prometheus.yml
OF_RABBITMQ = {"queue", "class"}  # `class` is made by label_replace

SELECTOR = re.compile(r"\b((?:postrider|rabbitmq)_\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\bby \(([^)]*)\)")


def expressions() -> Iterator[str]:
    """Yield the expressions of all alerts and panels."""
    yield from (rule["expr"] for rule in RULES)
    yield from (target["expr"] for panel in PANELS for target in panel["targets"])


def series() -> dict[str, set[str]]:
    """Return the labels of each series of our services, by its name."""
    found: dict[str, set[str]] = {}
    for home in HOMES.values():
        for metric in vars(home).values():
            if isinstance(metric, MetricWrapperBase):
                [family] = metric.describe()
                labels = set(metric._labelnames)
                suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
                for suffix in suffixes.get(family.type, ("",)):
                    found[family.name + suffix] = labels | (
                        {"le"} if "_bucket" in suffix else set()
                    )
    return found


SERIES = series()


@pytest.mark.parametrize("expression", [*expressions()])
def test_an_expression_names_metrics_and_labels_that_there_are(expression: str) -> None:
    """A misspelt metric is no error to Prometheus: the alert would never come."""
    known = OF_TARGETS | OF_RABBITMQ
    for name, selectors in SELECTOR.findall(expression):
        labels = OF_TARGETS | (SERIES[name] if name.startswith("postrider") else OF_RABBITMQ)
        assert {label for label, _, _ in LABEL.findall(selectors)} <= labels
        known |= labels
    for names in GROUPING.findall(expression):
        assert {each.strip() for each in names.split(",")} <= known


def test_the_values_of_labels_are_those_of_the_code() -> None:
    """Categories and reply classes have the names of the contracts."""
    values: dict[str, set[str]] = {"category": set(Category), "reply_class": set(ReplyClass)}
    for expression in expressions():
        for label, _, value in LABEL.findall(expression):
            if label in values:
                assert set(value.split("|")) <= values[label]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_has_its_section(rule: dict[str, Any]) -> None:
    """docs/operations.md says what each alert means and what to do, and the alert links to it."""
    page, _, anchor = rule["annotations"]["runbook"].partition("#")

    assert anchor == rule["alert"].lower()
    assert anchor in anchors(page)
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]


def test_no_service_is_forgotten() -> None:
    """Every service is scraped, and its end is noticed."""
    down = next(rule["expr"] for rule in RULES if rule["alert"] == "ServiceDown")
    jobs = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    scraped = {name for way in jobs[0]["dns_sd_configs"] for name in way["names"]}

    assert scraped == set(Owner)
    assert set(re.findall(r'service="(\w+)"', down)) == set(Owner)


def test_a_queue_is_nearly_full_at_half_of_its_limit() -> None:
    """The alert follows the limit of the topology."""
    (rule,) = (rule for rule in RULES if rule["alert"] == "QueueNearlyFull")

    assert rule["expr"].endswith(f"> {MAX_WAITING // 2}")
    assert f"{MAX_WAITING:,}" in rule["annotations"]["summary"]


def test_the_dashboard_can_be_provisioned() -> None:
    """Panels have ids of their own, a question as title, the provisioned source, and no overlap."""
    (source,) = yaml.safe_load((FOLDER / "grafana" / "datasource.yml").read_text())["datasources"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in PANELS)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert all(panel["title"].endswith("?") and panel["description"] for panel in PANELS)
    assert {panel["datasource"]["uid"] for panel in PANELS} == {source["uid"]}
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23  # Grafana has 24 columns
