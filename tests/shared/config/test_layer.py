"""The words for what is wrong in a layer."""

import pytest

from shared.config.layer import perhaps


@pytest.mark.parametrize(
    ("word", "hint"),
    [("prot", "; perhaps the port?"), ("PORT", "; perhaps the port?"), ("sealing", "")],
)
def test_only_what_is_near_is_hinted_at(word: str, hint: str) -> None:
    """A hint that leads astray is worse than none."""
    assert perhaps(word, {"port": "the port", "host": "the host"}) == hint
