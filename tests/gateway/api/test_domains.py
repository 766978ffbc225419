"""Domains in paths."""

import pytest

from services.gateway.api import domains
from services.gateway.api.problem import Problem


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("example.com", "example.com"), ("EXAMPLE.com.", "example.com"), ("bücher.example", None)],
)
def test_a_domain_comes_out_canonical(text: str, canonical: str | None) -> None:
    """Lower case, A-labels, no trailing dot."""
    assert domains.read(text) == (canonical or "xn--bcher-kva.example")


@pytest.mark.parametrize(
    "text", ["localhost", "a b.example", "127.0.0.1", "a/b.example", "é" * 9999]
)
def test_what_is_no_domain_is_refused(text: str) -> None:
    """A path with no mail domain in it is a 422."""
    with pytest.raises(Problem) as caught:
        domains.read(text)

    assert caught.value.kind.status == 422
