"""Tests of the sender's settings."""

import json
from pathlib import Path

import pytest

from services.sender.config import SenderSettings
from services.sender.mail.compose import MailDefaults
from services.sender.schedule import RetrySchedule
from services.sender.smtp.relay import ConnectionLimits, Login, Tls
from shared.contracts import Category
from shared.errors import ConfigError
from shared.storage.rate import Rate
from tests.sender.keys import write_key

NEEDED = {
    "AMQP_URL": "amqp://localhost",
    "SENDER_SMTP_HOST": "relay.example",
    "SENDER_SMTP_PORT": "465",
    "SENDER_SMTP_TLS": "implicit",
    "SENDER_FROM": "Post <post@bücher.example>",
    "SEALING_KEY": "00" * 32,
    "SUPPRESSION_KEY": "00" * 32,
}


def load(**more: str) -> SenderSettings:
    """Return the settings from the required ones and `more`."""
    return SenderSettings.load(NEEDED | more)


def test_defaults() -> None:
    """The required settings are enough; Message-IDs then have the domain of From."""
    settings = load()

    assert settings.relays[0].login is None
    assert settings.mail_defaults == MailDefaults(
        "Post <post@xn--bcher-kva.example>", "xn--bcher-kva.example"
    )
    assert settings.limits(Category.OTP) == ConnectionLimits(
        2, mails=100, idle_seconds=30, kept_seconds=5
    )
    assert settings.schedule(Category.BULK) == RetrySchedule(
        300, 14_400, 345_600, retries_uncertain=False
    )


def test_codes_are_in_a_hurry() -> None:
    """A kept connection has seconds to reply for a code, a minute for other mail."""
    kept = {category: load().limits(category).kept_seconds for category in Category}

    assert kept == {Category.OTP: 5, Category.TRANSACTIONAL: 60, Category.BULK: 60}


@pytest.mark.parametrize("name", NEEDED)
def test_needed(name: str) -> None:
    """Settings without a safe default are required, above all the TLS mode."""
    with pytest.raises(ConfigError, match=name):
        load(**{name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SENDER_SMTP_HOST", "a..b"),
        ("SENDER_SMTP_HOST", "a b"),
        ("SENDER_SMTP_HOST", "x" * 64),
        ("SENDER_SMTP_PORT", "0"),
        ("SENDER_SMTP_TLS", "maybe"),
        ("SENDER_SMTP_CA_FILE", "/nowhere.pem"),
        ("SENDER_HELO_NAME", "me\r\nRSET"),
        ("SENDER_FROM", "nobody"),
        ("SENDER_DOT_SECONDS", "601"),
        ("SENDER_CONNECTIONS_BULK", "0"),
        ("SENDER_DKIM_KEYS", "/nowhere"),
        ("SEALING_KEY", "00" * 31),
        ("SEALING_KEY", "secret" * 8),
        ("SUPPRESSION_KEY", "00" * 31),
        ("SUPPRESSION_KEY", f"{'00' * 32},{'11' * 32}"),
    ],
)
def test_refused(name: str, value: str) -> None:
    """A wrong setting is named, and its value is not repeated."""
    with pytest.raises(ConfigError) as caught:
        load(**{name: value})

    assert str(caught.value).startswith(name)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["relay", "relay.example", "relay.example.", "10.0.0.1", "::1"])
def test_hosts(host: str) -> None:
    """A relay may have any name that a resolver accepts."""
    assert load(SENDER_SMTP_HOST=host).sender_smtp_host == host


def test_login() -> None:
    """A user without a password, or a password without a user, is refused."""
    login = load(SENDER_SMTP_USERNAME="anna", SENDER_SMTP_PASSWORD="pw").relays[0].login

    assert login == Login("anna", "pw")
    assert "pw" not in repr(login)
    with pytest.raises(ConfigError, match="together"):
        load(SENDER_SMTP_USERNAME="anna")
    with pytest.raises(ConfigError, match="together"):
        load(SENDER_SMTP_PASSWORD="pw")


def test_a_password_in_an_unusable_file_is_set(tmp_path: Path) -> None:
    """An unreadable token file is the only mistake reported of a login."""
    with pytest.raises(ConfigError) as caught:
        load(SENDER_SMTP_USERNAME="post", SENDER_SMTP_PASSWORD_FILE=f"{tmp_path}/none")

    assert str(caught.value) == "SENDER_SMTP_PASSWORD_FILE: No such file or directory"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_password_in_the_clear(host: str) -> None:
    """A password crosses no network in clear text, but may be sent to the same machine."""
    account = {
        "SENDER_SMTP_TLS": "none",
        "SENDER_SMTP_USERNAME": "anna",
        "SENDER_SMTP_PASSWORD": "pw",
    }

    assert load(**account, SENDER_SMTP_HOST=host).relays[0].login is not None
    with pytest.raises(ConfigError, match="clear text"):
        load(**account)


@pytest.mark.parametrize(
    ("connections", "relays", "in_hand"), [(1, 1, 4), (4, 1, 16), (4, 3, 24), (2000, 2, 2000)]
)
def test_mails_in_hand(connections: int, relays: int, in_hand: int) -> None:
    """The prefetch keeps each connection busy during commits, within a bound."""
    names = ("SENDER_SMTP_HOST", "SENDER_SMTP_PORT", "SENDER_SMTP_TLS")
    accounts = [{"host": f"r{n}.example", "port": 465, "tls": "implicit"} for n in range(relays)]

    settings = load(
        **dict.fromkeys(names, ""),
        SENDER_RELAYS=json.dumps(accounts),
        SENDER_CONNECTIONS_BULK=str(connections),
    )

    assert settings.prefetch(Category.BULK) == in_hand


def test_every_class() -> None:
    """Each class has connections and waits of its own."""
    settings = load(
        SENDER_CONNECTIONS_OTP="7",
        SENDER_FIRST_WAIT_OTP="1",
        SENDER_LONGEST_WAIT_OTP="2",
        SENDER_GIVE_UP_OTP="3",
        SENDER_RETRY_UNCERTAIN_OTP="false",
    )

    assert settings.limits(Category.OTP).connections == 7
    assert settings.limits(Category.BULK).connections == 4
    assert settings.schedule(Category.OTP) == RetrySchedule(1, 2, 3, retries_uncertain=False)
    assert settings.schedule(Category.TRANSACTIONAL).first == 15


def test_certificates_that_are_none(tmp_path: Path) -> None:
    """A file without a certificate is refused."""
    (tmp_path / "ca.pem").write_text("secret")

    with pytest.raises(ConfigError) as caught:
        load(SENDER_SMTP_CA_FILE=f"{tmp_path}/ca.pem")

    assert str(caught.value) == (
        f"SENDER_SMTP_CA_FILE: {tmp_path}/ca.pem holds no certificate in PEM"
    )


def test_a_token_that_others_can_read(tmp_path: Path) -> None:
    """A token file that other users of the machine can read is refused."""
    (tmp_path / "token").touch(mode=0o644)

    with pytest.raises(ConfigError, match=r"^SENDER_SMTP_TOKEN_FILE: others can read .+ 0644"):
        load(SENDER_SMTP_USERNAME="anna", SENDER_SMTP_TOKEN_FILE=f"{tmp_path}/token")


def test_all_mistakes_of_a_relay_are_reported_at_once() -> None:
    """Dependent settings are checked with the rest: one start shows all mistakes."""
    environ = {
        "AMQP_URL": "foo",
        "SENDER_SMTP_TLS": "maybe",
        "SENDER_SMTP_USERNAME": "anna",
        "SENDER_FROM": "a@our.example",
        "SENDER_REMEMBER": "60",
        "SENDER_FORM": "b@our.example",
    }

    fields = SenderSettings.model_fields
    with pytest.raises(ConfigError) as caught:
        SenderSettings.load(environ)

    assert [line.partition(": ")[::2] for line in str(caught.value).splitlines()] == [
        ("SENDER_FORM", "there is no such setting; perhaps SENDER_FROM?"),
        ("AMQP_URL", "must begin with amqp:// or amqps://"),
        ("SENDER_SMTP_TLS", "must be 'none', 'starttls' or 'implicit'"),
        ("SEALING_KEY", f"is required: {fields['sealing_key'].description}"),
        ("SUPPRESSION_KEY", f"is required: {fields['suppression_key'].description}"),
        ("together", "SENDER_SMTP_HOST is needed, or SENDER_RELAYS"),
        ("together", "SENDER_SMTP_PORT is needed, or SENDER_RELAYS"),
        ("together", "SENDER_REMEMBER must be a day longer than any SENDER_GIVE_UP"),
    ]


def test_dkim_keys(tmp_path: Path) -> None:
    """The DKIM keys are read from their directory and never shown; without it there are none."""
    write_key(tmp_path / "our.example" / "s1.pem")

    settings = load(SENDER_DKIM_KEYS=str(tmp_path))

    assert [key.selector for key in settings.sender_dkim_keys["our.example"].keys] == ["s1"]
    assert "our.example" not in repr(settings).replace("post@our.example", "")
    assert not load().sender_dkim_keys


def test_wrong_dkim_key(tmp_path: Path) -> None:
    """An unusable DKIM key is one line with the name of its file."""
    key = tmp_path / "our.example" / "s1.pem"
    key.parent.mkdir()
    key.touch(mode=0o600)
    key.write_bytes(b"secret")

    with pytest.raises(ConfigError) as caught:
        load(SENDER_DKIM_KEYS=str(tmp_path))

    assert str(caught.value).startswith(f"SENDER_DKIM_KEYS: {key}: must be a private key")
    assert len(str(caught.value).splitlines()) == 1


SIMPLE = {f"SENDER_SMTP_{name}": "" for name in ("HOST", "PORT", "TLS")}
ONE = {"host": "a.example", "port": 465, "tls": "implicit"}
OTHER = {"host": "b.example", "port": 587, "tls": "starttls", "weight": 2, "username": "anna"}


def relays(*accounts: dict[str, object], **more: str) -> SenderSettings:
    """Return settings with a list of relays."""
    return load(SENDER_RELAYS=json.dumps(accounts), **(SIMPLE | more))


def test_one_relay() -> None:
    """The simple form of the settings is one relay."""
    [account] = load().relays

    assert (account.host, account.port, account.tls, account.weight) == (
        "relay.example",
        465,
        Tls.IMPLICIT,
        1,
    )


def test_several_relays() -> None:
    """Each relay has an account and a weight of its own."""
    one, other = relays(ONE, OTHER | {"password": "pw"}).relays

    assert (one.host, one.login, one.weight) == ("a.example", None, 1)
    assert (other.port, other.login, other.weight) == (587, Login("anna", "pw"), 2)


@pytest.mark.parametrize(
    ("accounts", "problem"),
    [
        ([ONE, ONE], "twice"),
        ([ONE | {"port": 0}], "SENDER_RELAYS.0.port"),
        ([ONE, OTHER], "PASSWORD"),
        ([OTHER | {"password": "secret", "tls": "none"}], "clear text"),
        ([{"host": "a.example"}], "SENDER_RELAYS.0.tls"),
        ([], "SENDER_RELAYS"),
    ],
)
def test_wrong_relays(accounts: list[dict[str, object]], problem: str) -> None:
    """A mistake in the list is reported with its place, without secrets."""
    with pytest.raises(ConfigError, match=problem) as caught:
        relays(*accounts)

    assert "secret" not in str(caught.value)


def test_both_forms() -> None:
    """One relay beside a list of them is a mistake."""
    with pytest.raises(ConfigError, match="not both"):
        relays(ONE, SENDER_SMTP_HOST="relay.example")


def test_no_json() -> None:
    """A malformed list is reported in one line."""
    with pytest.raises(ConfigError, match=r"SENDER_RELAYS: .+ as JSON"):
        load(SENDER_RELAYS="{secret", **SIMPLE)


def test_rates() -> None:
    """Rates are by relay and by recipient domain in any spelling, with no default."""
    domains = '{"Gmail.COM": 20, "bücher.example": 0.5}'

    assert load().rates == {}
    assert load(SENDER_SMTP_RATE="50", SENDER_DOMAIN_RATES=domains).rates == {
        "relay relay.example:465": Rate(50),
        "domain gmail.com": Rate(20),
        "domain xn--bcher-kva.example": Rate(0.5),
    }
    assert relays(ONE | {"rate": 5}).rates == {"relay a.example:465": Rate(5)}


def test_chunking() -> None:
    """BDAT may be used, unless it is turned off for the relay."""
    assert [each.chunking for each in load().relays] == [True]
    assert [each.chunking for each in load(SENDER_SMTP_CHUNKING="false").relays] == [False]
    assert [
        each.chunking for each in relays(ONE, ONE | {"host": "b.example", "chunking": False}).relays
    ] == [True, False]


@pytest.mark.parametrize("rates", ['{"gmail.com": 0}', '{"no domain": 1}', "[]"])
def test_wrong_rates(rates: str) -> None:
    """A rate of 0, or for an invalid domain, is a mistake."""
    with pytest.raises(ConfigError, match="SENDER_DOMAIN_RATES"):
        load(SENDER_DOMAIN_RATES=rates)


def test_remembers_long_enough() -> None:
    """A mail must be remembered for longer than copies of its command may come."""
    with pytest.raises(ConfigError, match="SENDER_REMEMBER must be a day longer"):
        load(SENDER_REMEMBER="400000")

    assert load(SENDER_REMEMBER="432000").sender_remember == 432_000


def test_return_paths() -> None:
    """Return paths are off; with a domain they need a key."""
    path = load(SENDER_BOUNCE_DOMAIN="Bounce.Our.example", BOUNCE_KEY="b0" * 32).return_paths

    assert path is not None
    assert path.domain == "bounce.our.example"
    assert load(BOUNCE_KEY="b0" * 32).return_paths is None
    with pytest.raises(ConfigError, match="SENDER_BOUNCE_DOMAIN needs a BOUNCE_KEY"):
        load(SENDER_BOUNCE_DOMAIN="bounce.our.example")
