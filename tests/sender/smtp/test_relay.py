"""Tests of which login is chosen."""

from pathlib import Path

import pytest

from services.sender.smtp.relay import Auth, Login

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
    """The one that is asked for, else the first that is offered and fits the secret."""
    assert login.method(offered) is chosen
