"""Pure: the keys of clients, JSON Web Tokens (RFC 7519) with the precautions of RFC 8725."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

import jwt
from jwt.types import Options

ALGORITHM = "HS256"  # the only one: a token's own header never chooses (RFC 8725 3.1)
TOKEN_TYPE = "postrider-key+jwt"  # noqa: S105 -- a token of another type is no key (RFC 8725 3.11)
ISSUER = "postrider"
AUDIENCE = "postrider-gateway"
LEEWAY = timedelta(seconds=30)  # between the clocks of two replicas
MAX_CACHED_TOKENS = 1000
OPTIONS: Options = {
    "require": ["iss", "aud", "sub", "jti", "iat", "exp"],
    "strict_aud": True,  # one audience, not a list with ours in it
    # A key is good from when its store has it. By a clock that was put back it is of the future.
    "verify_iat": False,
}


class InvalidApiKey(ValueError):
    """A token is not a key of this deployment; the text gives the reason, for the log alone."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of a client; each key of a client has another `id`."""

    client: str
    id: str


class ApiKeys:
    """Signs and verifies keys with a secret of at least 32 bytes; `clock` returns Unix time."""

    def __init__(self, secret: bytes, lifetime: timedelta, clock: Callable[[], float]) -> None:
        self._secret = secret
        self.lifetime = lifetime  # the longest of a key
        self._clock = clock
        # A client sends the same token with each request, and verifying it costs half as much as
        # the rest of the request. Only the time can change; the store knows about revocation.
        self._verified = lru_cache(MAX_CACHED_TOKENS)(self._decode)

    def sign(self, key: ApiKey, at: datetime, expires_at: datetime) -> str:
        """Return the token of a key that is valid from `at` to `expires_at`."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": key.client,
            "jti": key.id,
            "iat": at,
            "exp": expires_at,
        }
        return jwt.encode(claims, self._secret, ALGORITHM, headers={"typ": TOKEN_TYPE})

    def verify(self, token: str) -> ApiKey:
        """Return the key of a token. Raises InvalidApiKey."""
        key, expires = self._verified(token)
        if self._clock() >= expires + LEEWAY.total_seconds():
            raise InvalidApiKey("Expired")
        return key

    def _decode(self, token: str) -> tuple[ApiKey, float]:
        """Return the key of a token and the Unix time of its end. Raises InvalidApiKey."""
        try:
            decoded = jwt.decode_complete(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=LEEWAY,
                options=OPTIONS,
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise InvalidApiKey(type(error).__name__) from None
        if decoded["header"].get("typ") != TOKEN_TYPE:
            raise InvalidApiKey("WrongType")
        claims = decoded["payload"]
        return ApiKey(claims["sub"], claims["jti"]), float(claims["exp"])
