"""Tests of the settings of one relay."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.sender.smtp.account import Account
from services.sender.smtp.relay import Auth, Login

NEEDED: dict[str, Any] = {"host": "relay.example", "port": 465, "tls": "implicit"}


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Give a file that holds a token."""
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text("ya29\n")
    return path


def test_defaults() -> None:
    """Where it is and how it is encrypted is enough."""
    account = Account(**NEEDED)

    assert account.login is None
    assert account.weight == 1


@pytest.mark.parametrize("name", NEEDED)
def test_needed(name: str) -> None:
    """What has no safe default must be said."""
    with pytest.raises(ValidationError, match=name):
        Account(**{each: value for each, value in NEEDED.items() if each != name})


def test_login(token_file: Path) -> None:
    """A user has a password or a token; neither is shown."""
    password = Account(**NEEDED, username="anna", password="pw", auth=Auth.LOGIN)
    token = Account(**NEEDED, username="anna", token_file=token_file)

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
    """Half a login, a login in clear text, what nobody knows: refused, and not repeated."""
    with pytest.raises(ValidationError) as caught:
        Account(**NEEDED | more)

    assert "secret" not in str(caught.value)


def test_both_secrets(token_file: Path) -> None:
    """A password beside a token is one too many."""
    with pytest.raises(ValidationError, match="one of them"):
        Account(**NEEDED, username="anna", password="pw", token_file=token_file)
