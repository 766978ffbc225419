"""Tests of a relay's settings, and of the choice of a login method."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.sender.outcome import FailureReason, Unsendable
from services.sender.smtp.relay import (
    LOCK_STEP_SECONDS,
    MAX_FAILURES,
    MAX_JOINED_IDLE_SECONDS,
    MAX_JOINED_OCTETS,
    Auth,
    Chunking,
    ContentMode,
    Extensions,
    Login,
    Pipelining,
    RelaySettings,
)
from tests.sender.mails import CONTENT, a_mail

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


def test_nothing() -> None:
    """A server without extensions has no limits."""
    assert Extensions.read({}) == Extensions()


def test_all() -> None:
    """Extensions are found by keyword, limits by name in any case."""
    extensions = {
        "pipelining": "",
        "smtputf8": "",
        "8bitmime": "",
        "dsn": "",
        "size": "1000",
        "limits": "mailmax=5 RCPTMAX=7 RcptDomainMax=3 OTHER=9",
    }

    assert Extensions.read(extensions) == Extensions(
        pipelining=True,
        smtputf8=True,
        eight_bit=True,
        dsn=True,
        sized=True,
        size=1000,
        mails=5,
        recipients=7,
        domains=3,
    )


@pytest.mark.parametrize("number", ["", "0", "-1", "many", "1e3", "\u0661", "9" * 5000])
def test_no_number(number: str) -> None:
    """A value that is 0 or no number is no limit."""
    offers = Extensions.read({"size": number, "limits": f"MAILMAX={number} RCPTMAX={number}"})

    assert offers == Extensions(sized=True)


def test_objections() -> None:
    """A mail that the server's extensions do not allow is not begun."""
    fits = Extensions(sized=True, size=len(CONTENT))
    international = replace(a_mail(), needs_smtputf8=True)

    assert fits.objection(a_mail()) is None
    assert replace(fits, size=len(CONTENT) - 1).objection(a_mail()) == Unsendable(
        FailureReason.TOO_BIG
    )
    assert fits.objection(international) == Unsendable(FailureReason.SMTPUTF8_NOT_OFFERED)
    assert Extensions(smtputf8=True).objection(international) is None


def test_the_recipients_alone() -> None:
    """Without SMTPUTF8 ASCII recipients can be served if sender and headers are ASCII too."""
    plain = Extensions()
    mixed = replace(a_mail("a@x.example", "ü@y.example"), needs_smtputf8=True)
    foreign = replace(a_mail("ü@y.example"), needs_smtputf8=True)
    lacking = Unsendable(FailureReason.SMTPUTF8_NOT_OFFERED)

    assert plain.reachable(mixed) == ("a@x.example",)
    assert plain.objection(mixed) is None
    assert Extensions(smtputf8=True).reachable(mixed) == ("a@x.example", "ü@y.example")
    for mail in (
        foreign,
        replace(mixed, sender="ö@our.example"),
        replace(mixed, content="Cc: ä@x.example\r\n\r\n".encode()),
    ):
        assert plain.reachable(mail) == ()
        assert plain.objection(mail) == lacking


def test_offered() -> None:
    """PIPELINING is used where it is offered."""
    assert Pipelining().allows(100, 0)


def test_never_coped() -> None:
    """A relay that fails at its first group gets one command at a time for a while."""
    relay = Pipelining()
    relay.failed(1, 0)

    assert not relay.allows(1, LOCK_STEP_SECONDS - 1)
    assert relay.allows(1, LOCK_STEP_SECONDS)


def test_one_mail() -> None:
    """After a success, mails that end without a reply do not end pipelining."""
    relay = Pipelining()
    relay.succeeded(1)
    for _ in range(MAX_FAILURES - 1):
        relay.failed(1, 0)
    assert relay.allows(1, 0)
    relay.succeeded(1)
    relay.failed(1, 0)

    assert relay.allows(1, 0)


def test_too_large() -> None:
    """After a failure only groups larger than any that has worked are not pipelined."""
    relay = Pipelining()
    relay.succeeded(5)
    relay.failed(50, 0)

    assert [relay.allows(size, 0) for size in (1, 5, 6, 50, 100)] == [True, True] + [False] * 3


def test_grown_worse() -> None:
    """MAX_FAILURES in a row end pipelining even after a success."""
    relay = Pipelining()
    relay.succeeded(5)
    for _ in range(MAX_FAILURES):
        relay.failed(2, 0)

    assert not relay.allows(1, 0)


SMALL = 1000


def test_bdat_is_tried_first() -> None:
    """A relay has to accept a mail by BDAT before a content goes with the commands."""
    relay = Chunking(enabled=True)
    first = relay.mode(SMALL, 0, 0)
    relay.succeeded()

    assert (first, relay.mode(SMALL, 0, 0)) == (ContentMode.TRIAL, ContentMode.JOINED)


def test_bdat_not_enabled() -> None:
    """By its setting a relay has DATA only."""
    assert Chunking(enabled=False).mode(SMALL, 0, 1e9) is ContentMode.DATA


@pytest.mark.parametrize(
    ("octets", "idle", "mode"),
    [
        (MAX_JOINED_OCTETS, MAX_JOINED_IDLE_SECONDS, ContentMode.JOINED),
        (MAX_JOINED_OCTETS + 1, 0, ContentMode.DATA),
        (SMALL, MAX_JOINED_IDLE_SECONDS + 0.1, ContentMode.DATA),
    ],
)
def test_what_goes_at_once(octets: int, idle: float, mode: ContentMode) -> None:
    """A large content, or one over a connection that was idle, goes by DATA."""
    relay = Chunking(enabled=True)
    relay.succeeded()

    assert relay.mode(octets, idle, 0) is mode


def test_never_coped_with_bdat() -> None:
    """A relay that fails at its trial has DATA for good."""
    relay = Chunking(enabled=True)

    assert relay.failed(0)
    assert relay.mode(SMALL, 0, 1e9) is ContentMode.DATA


def test_bdat_that_worked_before() -> None:
    """A relay that fails later has DATA for a while, then another trial; one failure is one."""
    relay = Chunking(enabled=True)
    relay.succeeded()

    assert [relay.failed(0), relay.failed(0)] == [True, False]
    assert relay.mode(SMALL, 0, LOCK_STEP_SECONDS - 1) is ContentMode.DATA
    assert relay.mode(SMALL, 0, LOCK_STEP_SECONDS) is ContentMode.TRIAL
