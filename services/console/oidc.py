"""The login by an OpenID provider: an authorization code with PKCE.

RFC 7636, OpenID Connect Core 3.1, OpenID Connect Discovery.
"""

import asyncio
import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, Self
from urllib.parse import urlencode

import aiohttp
import jwt
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

ALGORITHMS = ("RS256", "ES256", "EdDSA")  # of ID tokens: no secret that both sides know
PROVIDER_SECONDS = 10.0  # for an answer of the provider
LEEWAY_SECONDS = 30  # between its clock and ours
MAX_ANSWER_BYTES = 1024 * 1024  # keys and tokens have some kilobytes
SCOPES = "openid email profile"

Url = Annotated[str, Field(max_length=2000, pattern="^https?://")]


class OidcError(Exception):
    """The provider did not answer as it must; the text is for the operator and the log."""


class _Discovered(BaseModel):
    """The part that is used of a provider's configuration (OpenID Connect Discovery 4.2)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    issuer: str
    authorization_endpoint: Url
    token_endpoint: Url
    jwks_uri: Url


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """The secrets of one login, which the browser keeps until the provider sends it back."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls, random: Callable[[], str]) -> Self:
        """Return an attempt; `random` returns text of 256 bits that a URL may have."""
        return cls(random(), random(), random())

    @property
    def challenge(self) -> str:
        """The hash of the verifier (RFC 7636 4.2)."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """An OpenID provider as this console uses it. Methods raise OidcError."""

    http: aiohttp.ClientSession
    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    redirect_uri: str

    async def login_url(self, attempt: LoginAttempt) -> str:
        """Return where the browser goes to log in."""
        found = await self._discover()
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": SCOPES,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in found.authorization_endpoint else "?"
        return f"{found.authorization_endpoint}{joint}{urlencode(query)}"

    async def claims(self, code: str, attempt: LoginAttempt) -> Mapping[str, Any]:
        """Return the claims of the ID token that a code is exchanged for."""
        found = await self._discover()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "client_id": self.client_id,
            "code_verifier": attempt.verifier,
        }
        if self.client_secret is not None:
            form["client_secret"] = self.client_secret
        answer = await self._read(
            # A redirect would take the code and the secret elsewhere.
            self.http.post(found.token_endpoint, data=form, allow_redirects=False)
        )
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise OidcError("the provider sent no ID token")
        keys = await self._read(self.http.get(found.jwks_uri))
        claims = self._verified(token, keys, found.issuer)
        if claims.get("nonce") != attempt.nonce:
            raise OidcError("the ID token is of another login")
        return claims

    async def _discover(self) -> _Discovered:
        url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        answer = await self._read(self.http.get(url))
        try:
            found = _Discovered.model_validate(answer)
        except ValidationError as error:
            raise OidcError("the provider's configuration is not complete") from error
        if found.issuer.rstrip("/") != self.issuer.rstrip("/"):
            raise OidcError("the provider's configuration names another issuer")
        return found

    def _verified(self, token: str, keys: Mapping[str, Any], issuer: str) -> Mapping[str, Any]:
        """Return the claims of a token that one of the provider's keys has signed for us."""
        try:
            known = jwt.PyJWKSet.from_dict(dict(keys))
            header = jwt.get_unverified_header(token)
            key = next(each for each in known.keys if each.key_id == header.get("kid"))
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=ALGORITHMS,
                audience=self.client_id,
                issuer=issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["iss", "sub", "aud", "exp", "iat"]},
            )
        except (jwt.PyJWTError, StopIteration, TypeError, ValueError) as error:
            raise OidcError(f"the ID token is not valid: {type(error).__name__}") from error
        if claims.get("azp", self.client_id) != self.client_id:  # OpenID Connect Core 3.1.3.7
            raise OidcError("the ID token is not valid: it was made for another client")
        return claims

    async def _read(self, request: "aiohttp.client._RequestContextManager") -> dict[str, Any]:
        """Return the JSON object of a successful answer."""
        try:
            async with asyncio.timeout(PROVIDER_SECONDS), request as answer:
                if answer.status != HTTPStatus.OK:
                    raise OidcError(f"the provider answered {answer.status}")
                body = await _read_body(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise OidcError(f"the provider does not answer: {type(error).__name__}") from error
        try:
            found = orjson.loads(body)
        except ValueError as error:
            raise OidcError("the provider's answer is no JSON") from error
        if not isinstance(found, dict):
            raise OidcError("the provider's answer is no object")
        return found


async def _read_body(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise OidcError("the provider's answer is too long")
    return bytes(body)
