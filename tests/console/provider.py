"""A small OpenID provider: discovery, keys, an authorization endpoint, and tokens by PKCE."""

import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT, SECRET = "console", "a client's secret of the provider's own"
KEY_ID = "key-1"


@dataclass
class Provider:
    """A provider that logs everybody in at once, as the person that a test has set."""

    issuer: str = ""
    person: dict[str, Any] = field(default_factory=dict)  # the claims of the ID token
    key: rsa.RSAPrivateKey = field(
        default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )
    signing_key: rsa.RSAPrivateKey | None = None  # another one than is published
    asked: list[dict[str, str]] = field(default_factory=list)
    refuses: bool = False
    broken: dict[str, web.Response] = field(default_factory=dict)  # by the path

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[Self]:
        """Serve until the block is left."""
        provider = cls()
        app = web.Application(middlewares=[provider.break_answers])
        app.add_routes(
            [
                web.get("/.well-known/openid-configuration", provider.configuration),
                web.get("/keys", provider.keys),
                web.get("/authorize", provider.authorize),
                web.post("/token", provider.token),
            ]
        )
        async with TestServer(app) as server:
            provider.issuer = str(server.make_url("")).rstrip("/")
            yield provider

    @web.middleware
    async def break_answers(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer what a test has set for a path."""
        return self.broken.pop(request.path, None) or await handler(request)

    async def configuration(self, _: web.Request) -> web.Response:
        """Return where everything is."""
        ends = {"authorization_endpoint": "authorize", "token_endpoint": "token"}
        ends["jwks_uri"] = "keys"
        found = {name: f"{self.issuer}/{path}" for name, path in ends.items()}
        return web.json_response({"issuer": self.issuer, **found})

    async def keys(self, _: web.Request) -> web.Response:
        """Return the public key."""
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return web.json_response({"keys": [{**public, "kid": KEY_ID, "use": "sig"}]})

    async def authorize(self, request: web.Request) -> web.Response:
        """Log the person in, and lead back with a code."""
        asked = dict(request.query)
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        self.asked.append(asked)
        answer = "error=access_denied" if self.refuses else f"code=code-{len(self.asked)}"
        where = f"{asked['redirect_uri']}?{answer}&state={asked['state']}"
        return web.Response(status=303, headers={"Location": where})

    async def token(self, request: web.Request) -> web.Response:
        """Exchange the code of the last login for an ID token, once PKCE and secret are right."""
        form, asked = await request.post(), self.asked[-1]
        digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        is_right = form["code"] == f"code-{len(self.asked)}" and form["client_secret"] == SECRET
        if challenge != asked["code_challenge"] or not is_right:
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 60, "sub": "s-1"}
        claims |= {"nonce": asked["nonce"], **self.person}
        token = jwt.encode(claims, self.signing_key or self.key, "RS256", headers={"kid": KEY_ID})
        return web.json_response({"id_token": token, "access_token": "x", "token_type": "Bearer"})
