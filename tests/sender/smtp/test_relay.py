"""Tests of a relay's settings, and of the choice of a login method."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.sender.smtp.relay import Auth, Login, RelaySettings

TOKEN = Path("token")


@pytest.mark.parametrize(
    ("login", "offered", "chosen"),
    [
        (Login("anna", "pw"), ["login", "cram-md5", "plain"], Auth.PLAIN),
        (Login("anna", "pw"), ["login"], Auth.LOGIN),
        (Login("anna", "pw"), ["xoauth2", "cram-md5"], Auth.CRAM_MD5),
        (Login("anna", "pw"), ["xoauth2", "gssapi"], None),
        (Login("anna", "pw"), [], None),
        (Login("anna", "pw", Auth.CRAM_MD5), ["plain", "cram-md5"], Auth.CRAM_MD5),
        (Login("anna", "pw", Auth.CRAM_MD5), ["plain"], None),
        (Login("anna", token_file=TOKEN), ["plain", "xoauth2"], Auth.XOAUTH2),
        (Login("anna", token_file=TOKEN), ["plain"], None),
    ],
)
def test_method(login: Login, offered: list[str], chosen: Auth | None) -> None:
    """The method is the configured one, else the first that is offered and fits the secret."""
    assert login.method(offered) is chosen


NEEDED: dict[str, Any] = {"host": "relay.example", "port": 465, "tls": "implicit"}


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Return a file with a token."""
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text("ya29\n")
    return path


def test_defaults() -> None:
    """Host, port and TLS mode are enough."""
    account = RelaySettings(**NEEDED)

    assert account.login is None
    assert account.weight == 1


@pytest.mark.parametrize("name", NEEDED)
def test_needed(name: str) -> None:
    """Settings without a safe default are required."""
    with pytest.raises(ValidationError, match=name):
        RelaySettings(**{each: value for each, value in NEEDED.items() if each != name})


def test_login(token_file: Path) -> None:
    """A user has a password or a token; neither is in the repr."""
    password = RelaySettings(**NEEDED, username="anna", password="pw", auth=Auth.LOGIN)
    token = RelaySettings(**NEEDED, username="anna", token_file=token_file)

    assert password.login == Login("anna", "pw", Auth.LOGIN)
    assert token.login == Login("anna", "", Auth.AUTO, token_file)
    assert "pw" not in repr(password) + repr(password.login)


@pytest.mark.parametrize(
    "more",
    [
        {"username": "anna"},
        {"password": "secret"},
        {"username": "anna", "password": "secret", "auth": "xoauth2"},
        {"username": "anna", "password": "secret", "tls": "none"},
        {"weight": 0},
        {"unknown": 1},
    ],
)
def test_refused(more: dict[str, Any]) -> None:
    """An incomplete, unencrypted or unknown login is refused, and its values are not repeated."""
    with pytest.raises(ValidationError) as caught:
        RelaySettings(**NEEDED | more)

    assert "secret" not in str(caught.value)


def test_both_secrets(token_file: Path) -> None:
    """A password beside a token is refused."""
    with pytest.raises(ValidationError, match="one of them"):
        RelaySettings(**NEEDED, username="anna", password="pw", token_file=token_file)
