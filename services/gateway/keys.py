"""Pure: the clients' keys, which are JSON Web Tokens (RFC 7519) as RFC 8725 wants them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import jwt
from jwt.types import Options

ALGORITHM = "HS256"  # the only one: a token's own header never chooses (RFC 8725 3.1)
TYPE = "postrider-key+jwt"  # a token of another kind is no key (RFC 8725 3.11)
ISSUER = "postrider"
AUDIENCE = "postrider-gateway"
LEEWAY = timedelta(seconds=30)  # between the clocks of two replicas
OPTIONS: Options = {
    "require": ["iss", "aud", "sub", "jti", "iat", "exp"],
    "strict_aud": True,  # one audience, not a list with ours in it
}


class BadKey(ValueError):
    """A token is not a key of ours; the text says why, for the log alone."""


@dataclass(frozen=True, slots=True)
class Key:
    """Whose key it is, and which of that client's keys."""

    client: str
    id: str


class Keys:
    """Makes and reads keys with a secret of 32 bytes or more."""

    def __init__(self, secret: bytes, lifetime: timedelta) -> None:
        self._secret = secret
        self._lifetime = lifetime

    def make(self, key: Key, at: datetime) -> str:
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

    def read(self, token: str) -> Key:
        """Give the key that a token is. Raises BadKey."""
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
            raise BadKey(type(error).__name__) from None
        if found["header"].get("typ") != TYPE:
            raise BadKey("WrongType")
        claims = found["payload"]
        return Key(claims["sub"], claims["jti"])
