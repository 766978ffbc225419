"""The generated documents in docs/."""

import json
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

import services
import shared
from ops import docs
from shared.contracts import CONTRACTS, Contract, encode
from tests.shared.golden.examples import EXAMPLES

DOCUMENTS = docs.documents()
PARTS = [
    each.name
    for package in (services, shared)
    for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if "migrations" not in each.name and not each.name.endswith("__main__")
]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_docs_are_what_the_code_generates(path: str) -> None:
    """The documents are up to date; `make docs` renews them."""
    written = (docs.DOCS / path).read_text(encoding="utf-8")

    assert written == DOCUMENTS[path], f"docs/{path} is out of date: make docs"


def test_no_schema_is_left_over() -> None:
    """No schema is without a contract."""
    assert docs.left_over(docs.DOCS) == []


def test_generating_writes_all_and_removes_the_rest(tmp_path: Path) -> None:
    """`make docs` writes all documents and removes the schemas without a contract."""
    stale = tmp_path / "contracts" / "Former.schema.json"
    stale.parent.mkdir()
    stale.write_text("{}")

    assert docs.main(tmp_path) == 0

    files = (path for path in tmp_path.rglob("*") if path.is_file())
    found = {path.relative_to(tmp_path).as_posix() for path in files}
    assert found == set(DOCUMENTS)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_schemas_speak_of_the_wire(contract: type[Contract]) -> None:
    """A schema has the names on the wire, not the names in Python."""
    example = next(example for example in EXAMPLES if type(example) is contract)
    schema = json.loads(DOCUMENTS[docs.path_of(contract)])

    assert schema["properties"].keys() >= json.loads(encode(example)).keys()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "id" in schema["required"]


def test_every_metric_is_on_the_page() -> None:
    """The page has every metric of every module."""
    for part in PARTS:
        import_module(part)
    names = re.findall(r"^\| `(postrider_\w+?)(?:_total)?` ", docs.document(), re.MULTILINE)
    ours = {each.name for each in REGISTRY.collect() if each.name.startswith("postrider_")}

    assert len(PARTS) > 100
    assert sorted(names) == sorted(ours)


def test_a_row() -> None:
    """A counter has the name and the labels of `/metrics`."""
    row = "| `postrider_deliveries_total` | counter | `queue`, `end` | Messages handled, "

    assert row in docs.document()
