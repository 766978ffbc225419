"""The size of a body is checked before it is parsed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts import CONTRACTS, Contract, decode
from shared.contracts.message import MAX_VALUES, check_size
from shared.errors import Undecodable

ENOUGH = 1 << 30
PADDING = " " * MAX_VALUES  # so that the values of a short body are counted too


def test_bytes() -> None:
    """A limit of bytes holds to the byte."""
    check_size(b"12345", 5)

    with pytest.raises(ValueError, match="must have at most 4 bytes, not 5"):
        check_size(b"12345", 4)


@pytest.mark.parametrize(
    "item", [b"0", b"[]", b"{}", b'""', b'{"a":1}', b'"\\""', b'"\\\\"', b"[[]]", b'",[{"']
)
def test_values(item: bytes) -> None:
    """A body with too many values of any kind is not parsed; commas inside a text are no values."""
    inside = max(1, item.count(b"{") + item.count(b"["))
    many = b"[" + b",".join([item] * (MAX_VALUES + 1)) + b"]"

    with pytest.raises(ValueError, match=f"at most {MAX_VALUES} values"):
        check_size(many, ENOUGH)
    few = b"[" + b",".join([item] * (MAX_VALUES // (inside + 2))) + b"]"
    check_size(few + b" " * MAX_VALUES, ENOUGH)


def test_texts_may_have_any_marks() -> None:
    """A letter with many commas, quotes and brackets is one value."""
    text = json.dumps({"text": 'Well, [so] {"what"}? \\" \\\\ ' * MAX_VALUES}).encode()

    check_size(text, ENOUGH)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_small_bodies_pass(value: object) -> None:
    """A body of few values passes, however it is written."""
    check_size((json.dumps(value, ensure_ascii=False) + PADDING).encode(), ENOUGH)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_every_contract_has_a_size(contract: type[Contract]) -> None:
    """A body beyond the limit is not parsed, and the reason names the limit."""
    key = contract.keys[0]
    for size, reason in (
        (contract.max_bytes, "is not JSON"),
        (contract.max_bytes + 1, f"body: must have at most {contract.max_bytes} bytes"),
    ):
        with pytest.raises(Undecodable, match=reason):
            decode(key, b"x" * size)
