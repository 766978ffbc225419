"""How long a client would like to wait."""

import pytest

from services.gateway.api import prefer


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], 0),
        (["wait=10"], 10),
        (["Wait = 10"], 10),
        (['wait="10"'], 10),
        (["respond-async, wait=10"], 10),
        (["respond-async", "wait=10; foo=bar"], 10),
        (["wait=3, wait=10"], 3),
        (["wait=0"], 0),
        (["wait=31"], 30),
        (["wait=" + "9" * 5000], 30),
        (["wait=-1"], 0),
        (["wait=1.5"], 0),
        (["wait=\u0661\u0660"], 0),
        (["wait"], 0),
        (["await=10"], 0),
        (["", ",;=,"], 0),
    ],
)
def test_a_wait_is_read_leniently_and_capped(headers: list[str], seconds: int) -> None:
    """What RFC 7240 allows is understood, and what it does not is no preference."""
    assert prefer.wait(headers, at_most=30) == seconds
