"""The login by an OpenID provider, from the link to the session."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ops import ports
from services.console.oidc import MAX_ANSWER_BYTES
from tests.console.operator import Operator, declare, settings, visiting
from tests.console.provider import CLIENT, KEY_ID, SECRET, Provider

pytestmark = pytest.mark.rabbit
CONFIGURATION = "/.well-known/openid-configuration"
ANN = {"sub": "s-ann", "email": "Ann@ops.example", "email_verified": True}


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """Run a provider that logs Ann in."""
    async with Provider.running() as found:
        found.person = dict(ANN)
        yield found


@pytest.fixture
async def visitor(vhost: str, tmp_path: Path, provider: Provider) -> AsyncIterator[Operator]:
    """Run a console that trusts the provider."""
    await declare(vhost)
    (port,) = ports.unused(1)
    given = settings(
        vhost,
        tmp_path,
        console_port=port,
        console_url=f"http://127.0.0.1:{port}",
        console_oidc_issuer=provider.issuer,
        console_oidc_client_id=CLIENT,
        console_oidc_client_secret=SECRET,
        console_oidc_actors=("ann@ops.example",),
        console_oidc_viewers=("s-eve",),
    )
    async with visiting(given) as found:
        yield found


async def test_an_operator_logs_in_by_the_provider(visitor: Operator, provider: Provider) -> None:
    """The page that was asked for is shown, under the verified name; the way back works once."""
    form = await visitor.get("/login?next=/audit")
    page = await visitor.get("/login/oidc?next=/audit")
    back = await visitor.get(f"/login/oidc/callback?code=code-1&state={provider.asked[0]['state']}")

    assert back.status == 403
    assert 'href="/login/oidc?next=%2Faudit"' in form.text
    assert page.url == f"{visitor.url}/audit"
    assert "Ann@ops.example Log out" in page.words


async def test_a_viewer_may_only_look(visitor: Operator, provider: Provider) -> None:
    """The list says who may act."""
    provider.person = {"sub": "s-eve"}
    page = await visitor.get("/login/oidc?next=/audit")

    assert "s-eve, who may look only" in page.words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sub": "s-9", "email": "eve@ops.example"}, "You are not among the operators"),
        ({"nonce": "another"}, "the ID token is of another login"),
        ({"aud": "another"}, "the ID token is not valid"),
        ({"iss": "https://evil.example"}, "the ID token is not valid"),
        ({"exp": 1_000_000_000}, "the ID token is not valid"),
        ({"azp": "another"}, "it was made for another client"),
    ],
)
async def test_a_token_that_is_not_for_this_login_begins_no_session(
    visitor: Operator, provider: Provider, change: dict[str, Any], words: str
) -> None:
    """Audience, issuer, time and nonce are checked, and the list."""
    provider.person = {**ANN, **change}
    page = await visitor.get("/login/oidc")

    assert page.status in {403, 502}
    assert words in page.words
    assert "/login" in (await visitor.get("/audit")).url


CURVE = json.loads(
    jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key())
)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (CONFIGURATION, b"[" * 100_000, "answer is no JSON"),
        (CONFIGURATION, b'{"issuer": "https://evil.example"}', "configuration is not complete"),
        ("/token", b"[]", "answer is no object"),
        ("/token", b'"' + b"x" * MAX_ANSWER_BYTES, "answer is too long"),
        ("/keys", json.dumps({"keys": [{**CURVE, "kid": KEY_ID}]}).encode(), "is not valid"),
    ],
)
async def test_a_wrong_answer_of_the_provider_is_explained(
    visitor: Operator, provider: Provider, path: str, body: bytes, words: str
) -> None:
    """Nothing that it answers is a fault of the console; the next login works."""
    provider.broken[path] = web.Response(body=body)
    refused = await visitor.get("/login/oidc")

    assert refused.status == 502
    assert words in refused.words
    assert (await visitor.get("/login/oidc?next=/audit")).url == f"{visitor.url}/audit"


async def test_a_token_of_another_key_begins_no_session(
    visitor: Operator, provider: Provider
) -> None:
    """The signature is checked with the keys that the provider publishes."""
    provider.signing_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    page = await visitor.get("/login/oidc")

    assert page.status == 502
    assert "the ID token is not valid" in page.words


async def test_a_callback_that_this_browser_did_not_ask_for_is_refused(visitor: Operator) -> None:
    """A link of another person cannot log a browser in under that person's name."""
    strange = await visitor.get("/login/oidc/callback?code=code-1&state=x")
    async with visitor.http.get(f"{visitor.url}/login/oidc", allow_redirects=False) as answer:
        begun = answer.headers["Location"]
    wrong = await visitor.get("/login/oidc/callback?code=code-1&state=x")

    assert "code_challenge=" in begun
    assert (strange.status, wrong.status) == (403, 403)
    assert "Begin it again" in wrong.words


async def test_a_person_whom_the_provider_refuses_is_told_so(
    visitor: Operator, provider: Provider
) -> None:
    """The token can still be used."""
    provider.refuses = True
    page = await visitor.get("/login/oidc")

    assert page.status == 403
    assert "The provider has not logged you in." in page.words
    assert (await visitor.log_in()).status == 200


async def test_a_provider_that_is_away_is_named_as_the_cause(vhost: str, tmp_path: Path) -> None:
    """The login by token goes on."""
    await declare(vhost)
    (port,) = ports.unused(1)
    away = settings(
        vhost,
        tmp_path,
        console_url="http://127.0.0.1",
        console_oidc_issuer=f"http://127.0.0.1:{port}",
        console_oidc_client_id=CLIENT,
    )
    async with visiting(away) as visitor:
        page = await visitor.get("/login/oidc")
        token = await visitor.log_in()

    assert page.status == 502
    assert "the provider does not answer" in page.words
    assert token.status == 200


async def test_without_a_provider_there_is_no_such_login(vhost: str, tmp_path: Path) -> None:
    """The form does not show it."""
    await declare(vhost)
    async with visiting(settings(vhost, tmp_path)) as visitor:
        assert "/login/oidc" not in (await visitor.get("/login")).text
        assert (await visitor.get("/login/oidc")).status == 404
