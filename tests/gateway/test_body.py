"""Reading bodies."""

import pytest

from services.gateway import body as bodies
from services.gateway.problem import Problem
from services.gateway.schemas import NewMessage


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"NaN",
        b'{"to": NaN}',
        b"\xff\xfe",
        b'{"subject": "\xe9"}',
        b'{"subject": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
    ],
)
def test_what_is_no_json_object_cannot_be_read(body: bytes) -> None:
    """Strict JSON in strict UTF-8, an object, not nested without end; all else is a 400."""
    with pytest.raises(Problem) as caught:
        bodies.read(NewMessage, body)

    assert caught.value.kind.status == 400
