"""Pure: the clients' keys, which are JSON Web Tokens (RFC 7519) as RFC 8725 wants them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import jwt
from jwt.types import Options

ALGORITHM = "HS256"  # the only one: a token's own header never chooses (RFC 8725 3.1)
TYPE = "postrider-key+jwt"  # a token of another kind is no key (RFC 8725 3.11)
ISSUER = "postrider"
AUDIENCE = "postrider-gateway"
LEEWAY = timedelta(seconds=30)  # between the clocks of two replicas
MAX_KNOWN = 1000  # tokens whose signature was good, which are not looked into again
OPTIONS: Options = {
    "require": ["iss", "aud", "sub", "jti", "iat", "exp"],
    "strict_aud": True,  # one audience, not a list with ours in it
}


class InvalidApiKey(ValueError):
    """A token is not a key of ours; the text says why, for the log alone."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Whose key it is, and which of that client's keys."""

    client: str
    id: str


class ApiKeys:
    """Makes and reads keys with a secret of 32 bytes or more; `clock` gives seconds since 1970."""

    def __init__(self, secret: bytes, lifetime: timedelta, clock: Callable[[], float]) -> None:
        self._secret = secret
        self._lifetime = lifetime
        self._clock = clock
        self._known: dict[str, tuple[ApiKey, float]] = {}

    def make(self, key: ApiKey, at: datetime) -> str:
        """Give the token of a key that is good from `at` on."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": key.client,
            "jti": key.id,
            "iat": at,
            "exp": at + self._lifetime,
        }
        return jwt.encode(claims, self._secret, ALGORITHM, headers={"typ": TYPE})

    def read(self, token: str) -> ApiKey:
        """Give the key that a token is. Raises BadKey."""
        # A client sends the same token with each request, and to verify it costs as much as half
        # of all else. What can change is the time; whether it is revoked is asked elsewhere.
        known = self._known.get(token)
        if known is None:
            known = self._verified(token)
            if len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[token] = known
        key, expires = known
        if self._clock() >= expires + LEEWAY.total_seconds():
            raise InvalidApiKey("Expired")
        return key

    def _verified(self, token: str) -> tuple[ApiKey, float]:
        """Give the key that a token is, and when it ends. Raises BadKey."""
        try:
            found = jwt.decode_complete(
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
        if found["header"].get("typ") != TYPE:
            raise InvalidApiKey("WrongType")
        claims = found["payload"]
        return ApiKey(claims["sub"], claims["jti"]), float(claims["exp"])
