"""The keys of requests."""

import pytest

from services.gateway.api.problem import Problem
from services.gateway.clients import idempotency


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([], None),
        (["order-17"], "order-17"),
        (['"order-17"'], "order-17"),
        ([" a b "], "a b"),
        (['a"'], 'a"'),
        (["x" * 255], "x" * 255),
    ],
)
def test_a_key_is_read_with_and_without_quotes(headers: list[str], key: str | None) -> None:
    """The draft has a string in quotes, most clients send it bare."""
    assert idempotency.read_key(headers) == key


@pytest.mark.parametrize(
    "headers",
    [[""], [" "], ['"'], ['""'], ["x" * 256], ["é"], ["\udce9"], ["a\tb"], ["a\x7f"], ["a", "a"]],
)
def test_what_is_no_key_is_refused(headers: list[str]) -> None:
    """A caller who thinks it is safe must be."""
    with pytest.raises(Problem) as caught:
        idempotency.read_key(headers)

    assert caught.value.type.status == 400


def test_a_fingerprint_is_of_one_body_and_one_secret() -> None:
    """Who sees it cannot try out which code it was made of."""
    ours = idempotency.fingerprint(b"s" * 32, b'{"code":"123456"}')

    assert ours == idempotency.fingerprint(b"s" * 32, b'{"code":"123456"}')
    assert ours != idempotency.fingerprint(b"s" * 32, b'{"code":"123457"}')
    assert ours != idempotency.fingerprint(b"t" * 32, b'{"code":"123456"}')


def test_a_derived_id_is_that_of_its_parts() -> None:
    """Where one part ends and the next begins counts."""
    assert idempotency.derived_id("a", "b") == idempotency.derived_id("a", "b")
    assert idempotency.derived_id("a", "bc") != idempotency.derived_id("ab", "c")
