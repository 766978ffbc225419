"""The generated documents: those in docs/ are what the code says now."""

import json
from pathlib import Path

import pytest

from ops import contracts
from shared.contracts import CONTRACTS, Contract, encode
from tests.shared.golden.examples import EXAMPLES

DOCUMENTS = contracts.documents()


@pytest.mark.parametrize("path", DOCUMENTS)
def test_docs_are_what_the_code_generates(path: str) -> None:
    """Other programs are written against docs/; `make docs` renews it with the code."""
    written = (contracts.DOCS / path).read_text(encoding="utf-8")

    assert written == DOCUMENTS[path], f"docs/{path} is out of date: make docs"


def test_no_schema_is_left_over() -> None:
    """A contract that is no more has no schema."""
    assert contracts.left_over(contracts.DOCS) == []


def test_generating_writes_all_and_removes_the_rest(tmp_path: Path) -> None:
    """After it the folder holds the documents and nothing of former ones."""
    stale = tmp_path / "contracts" / "Former.schema.json"
    stale.parent.mkdir()
    stale.write_text("{}")

    assert contracts.main(tmp_path) == 0

    files = (path for path in tmp_path.rglob("*") if path.is_file())
    found = {path.relative_to(tmp_path).as_posix() for path in files}
    assert found == set(DOCUMENTS)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_schemas_speak_of_the_wire(contract: type[Contract]) -> None:
    """A schema has the names that are in the JSON, not those that Python needs."""
    example = next(example for example in EXAMPLES if type(example) is contract)
    schema = json.loads(DOCUMENTS[contracts.path_of(contract)])

    assert schema["properties"].keys() >= json.loads(encode(example)).keys()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "id" in schema["required"]
