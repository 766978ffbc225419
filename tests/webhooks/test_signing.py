"""Signatures, checked by the reference library."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Verifier

from services.webhooks.signing import headers, secret_text, signature

# The example of the specification (standard-webhooks, 1.0).
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TIME = datetime(2021, 2, 25, 13, 50, 14, tzinfo=UTC)


def test_the_example_of_the_specification() -> None:
    """It is the signature that the specification has for these values."""
    found = signature(
        [Verifier(SECRET)._whsecret],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )

    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(min_size=24, max_size=64), st.text(st.characters(exclude_categories=["Cs"])))
def test_the_reference_library_signs_alike(secret: bytes, text: str) -> None:
    """Any content under any secret has the signature that the library makes."""
    body = text.encode()
    found = headers([secret], "shop.example", "msg_1", int(TIME.timestamp()), body)

    assert found["webhook-signature"] == Verifier(secret_text(secret)).sign("msg_1", TIME, text)
    assert found["Content-Length"] == str(len(body))


@pytest.mark.parametrize("count", [1, 2])
def test_each_secret_signs(count: int) -> None:
    """The signatures stand in one header, with a space between."""
    secrets = [bytes([number]) * 32 for number in range(count)]

    assert len(signature(secrets, "msg_1", 1, b"{}").split(" ")) == count
