"""The keys of clients."""

import base64
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import jwt
import pytest

from services.gateway.clients.keys import (
    AUDIENCE,
    ISSUER,
    LEEWAY,
    MAX_CACHED_TOKENS,
    TOKEN_TYPE,
    ApiKey,
    ApiKeys,
    InvalidApiKey,
)

SECRET = bytes(range(32))
OTHER = bytes(range(1, 33))
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
KEYS = ApiKeys(SECRET, DAY, time.time)
NOW = datetime.now(UTC)
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "shop",
    "jti": "k1",
    "iat": NOW,
    "exp": NOW + timedelta(hours=1),
}


def forged(
    claims: Mapping[str, object] = MappingProxyType({}),
    *,
    secret: bytes = SECRET,
    algorithm: str = "HS256",
    kind: str | None = TOKEN_TYPE,
) -> str:
    """Return a valid token with some claims changed; None removes a claim."""
    content = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    return jwt.encode(content, secret, algorithm, headers={"typ": kind})


def unsigned(header: dict[str, str]) -> str:
    """Return a token without a signature, which needs no secret."""
    payload = {**CLAIMS, "iat": int(NOW.timestamp()), "exp": int(NOW.timestamp()) + 3600}
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()) for part in (header, payload))
    return b".".join([*(part.rstrip(b"=") for part in parts), b""]).decode()


def test_a_signed_key_is_verified() -> None:
    """A signed key is verified."""
    assert KEYS.verify(KEYS.sign(ApiKey("shop", "k1"), NOW, NOW + DAY)) == ApiKey("shop", "k1")
    assert KEYS.verify(forged()) == ApiKey("shop", "k1")


def test_a_key_of_the_future_is_verified() -> None:
    """A gateway whose clock was put back does not refuse the keys of an hour before."""
    assert KEYS.verify(forged({"iat": NOW + HOUR})) == ApiKey("shop", "k1")


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(unsigned({"alg": "none", "typ": TOKEN_TYPE}), id="no algorithm"),
        pytest.param(unsigned({"alg": "NONE", "typ": TOKEN_TYPE}), id="no algorithm, in capitals"),
        pytest.param(unsigned({"alg": "HS256", "typ": TOKEN_TYPE}), id="no signature"),
        pytest.param(unsigned({"typ": TOKEN_TYPE}), id="no alg"),
        pytest.param(forged(secret=OTHER), id="another secret"),
        pytest.param(forged(secret=SECRET * 2, algorithm="HS512"), id="another algorithm"),
        pytest.param(forged({"aud": "elsewhere"}), id="another audience"),
        pytest.param(forged({"aud": [AUDIENCE, "elsewhere"]}), id="several audiences"),
        pytest.param(forged({"iss": "somebody"}), id="another issuer"),
        pytest.param(forged(kind="JWT"), id="another type"),
        pytest.param(forged(kind=None), id="no type"),
        pytest.param(forged({"exp": NOW - timedelta(hours=1)}), id="expired"),
        *(pytest.param(forged({name: None}), id=f"no {name}") for name in CLAIMS),
        pytest.param("", id="nothing"),
        pytest.param("a.b", id="two parts"),
        pytest.param("....", id="dots"),
        pytest.param("e30.e30.e30", id="empty objects"),
        pytest.param("W10.W10.W10", id="lists"),
        pytest.param("x" * 8000, id="long"),
    ],
)
def test_anything_else_is_no_key(token: str) -> None:
    """A token with another signature, type, audience or time is no key."""
    with pytest.raises(InvalidApiKey):
        KEYS.verify(token)


def test_a_token_altered_in_any_place_is_no_key() -> None:
    """A token with changed claims is no key."""
    token = KEYS.sign(ApiKey("shop", "k1"), NOW, NOW + DAY)
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    other = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "bank"}).encode()).rstrip(b"=")

    with pytest.raises(InvalidApiKey):
        KEYS.verify(f"{header}.{other.decode()}.{signature}")


def test_the_reason_does_not_repeat_the_token() -> None:
    """The reason of a refusal does not repeat the token, so that it can be logged."""
    with pytest.raises(InvalidApiKey) as caught:
        KEYS.verify(forged(secret=OTHER))

    assert str(caught.value) == "InvalidSignatureError"


def test_a_cached_key_ends_with_its_time() -> None:
    """A cached key is refused after its expiry."""
    now = NOW.timestamp()
    keys = ApiKeys(SECRET, timedelta(hours=1), lambda: now)
    token = keys.sign(ApiKey("shop", "k1"), NOW, NOW + HOUR)
    assert keys.verify(token) == ApiKey("shop", "k1")

    now += 3600 + LEEWAY.total_seconds() - 1
    assert keys.verify(token) == ApiKey("shop", "k1")

    now += 1
    with pytest.raises(InvalidApiKey, match="Expired"):
        keys.verify(token)


def test_the_cache_of_keys_is_bounded() -> None:
    """The cache of verified tokens is bounded; a token that left it is verified again."""
    keys = ApiKeys(SECRET, timedelta(hours=1), time.time)
    tokens = [
        keys.sign(ApiKey("shop", f"k{number}"), NOW, NOW + HOUR)
        for number in range(MAX_CACHED_TOKENS + 5)
    ]

    assert [keys.verify(token).id for token in tokens * 2] == [
        f"k{number}" for number in range(MAX_CACHED_TOKENS + 5)
    ] * 2
    assert keys._verified.cache_info().currsize == MAX_CACHED_TOKENS
