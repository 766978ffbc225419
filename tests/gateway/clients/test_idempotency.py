"""Idempotency-Keys."""

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
        (["x" * 256], "x" * 256),
    ],
)
def test_a_key_is_read_with_and_without_quotes(headers: list[str], key: str | None) -> None:
    """A key may be in quotes, as in the draft, or bare, as most clients send it."""
    assert idempotency.read_key(headers) == key


@pytest.mark.parametrize(
    "headers",
    [[""], [" "], ['"'], ['""'], ["x" * 257], ["é"], ["\udce9"], ["a\tb"], ["a\x7f"], ["a", "a"]],
)
def test_a_header_that_is_no_key_is_refused(headers: list[str]) -> None:
    """A header that is no key is a 400: its client must not believe that a repeat is safe."""
    with pytest.raises(Problem) as caught:
        idempotency.read_key(headers)

    assert caught.value.type.status == 400


def test_a_fingerprint_is_of_one_body_and_one_secret() -> None:
    """A fingerprint depends on the secret, so that no code can be guessed from it."""
    ours = idempotency.fingerprint(b"s" * 32, b'{"code":"123456"}')

    assert ours == idempotency.fingerprint(b"s" * 32, b'{"code":"123456"}')
    assert ours != idempotency.fingerprint(b"s" * 32, b'{"code":"123457"}')
    assert ours != idempotency.fingerprint(b"t" * 32, b'{"code":"123456"}')


def test_a_derived_id_is_that_of_its_parts() -> None:
    """A derived id depends on its parts and on the borders between them."""
    assert idempotency.derived_id("a", "b") == idempotency.derived_id("a", "b")
    assert idempotency.derived_id("a", "bc") != idempotency.derived_id("ab", "c")
