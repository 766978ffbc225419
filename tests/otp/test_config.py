"""The settings of the otp service."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.otp.codes import CodePolicy, FixedCode
from services.otp.config import OtpSettings
from services.otp.limits import CodeLimits
from services.otp.mail import translations
from services.otp.mail.mail import Branding
from shared.errors import ConfigError
from tests.otp.mail.texts import toml
from tests.pages import blocks

KEY = "0f" * 32
ENVIRON = {"AMQP_URL": "amqp://localhost", "OTP_KEY": KEY, "SEALING_KEY": KEY}


def test_the_keys_are_enough() -> None:
    """Broker and keys are enough; a code has six digits, ten minutes and five guesses then."""
    settings = OtpSettings.load(ENVIRON)

    assert settings.otp_digits == 6
    assert settings.otp_lifetime == 600
    assert settings.otp_tries == 5
    assert settings.limits == CodeLimits(5, 10, 5000, 1000, 5000, 20_000, 10_000, 300)
    assert settings.policy(frozenset()) == CodePolicy(600_000, 60_000, 5, 30, frozenset())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTP_KEY", "short"),
        ("OTP_KEY", f"{KEY},"),
        ("SEALING_KEY", "0f" * 31),
        ("OTP_DIGITS", "3"),
        ("OTP_DIGITS", "9"),
        ("OTP_LIFETIME", "0"),
        ("OTP_LIFETIME", "86401"),
        ("OTP_TRIES", "0"),
        ("OTP_COOLDOWN", "0"),
        ("OTP_FAILURES", "0"),
        ("OTP_RECIPIENT_HOURLY", "-1"),
        ("OTP_CLIENT_FAILURES", "-1"),
        ("OTP_IP_FAILURES", "-1"),
        ("OTP_PURGE_SECONDS", "7201"),
        ("OTP_SENDER", "nobody"),
    ],
)
def test_what_cannot_be(name: str, value: str) -> None:
    """The error of a wrong setting begins with its name."""
    with pytest.raises(ConfigError, match=f"^{name}: "):
        OtpSettings.load({**ENVIRON, name: value})


def test_the_test_codes_are_read_as_the_page_shows(tmp_path: Path) -> None:
    """Test codes are off by default, and read from a file as docs/codes.md shows, or as JSON."""
    (shown,) = (b.text for b in blocks("docs/codes.md") if b.language == "toml")
    (tmp_path / "my.toml").write_text(shown)
    (tmp_path / "my.toml").chmod(0o600)  # it is a secret
    expected = FixedCode(code="271828", until=datetime(2027, 1, 31, tzinfo=UTC))
    as_json = '{"review@shop.example": {"code": "271828", "until": "2027-01-31T01:00:00+01:00"}}'

    read = OtpSettings.load(ENVIRON, ["--config", str(tmp_path / "my.toml")])
    given = OtpSettings.load({**ENVIRON, "OTP_TEST_CODES": as_json})

    assert read.otp_test_codes == given.otp_test_codes == {"review@shop.example": expected}
    assert OtpSettings.load(ENVIRON).otp_test_codes == {}
    assert "271828" not in repr(given)


def test_a_test_code_without_an_end_is_refused() -> None:
    """The error names the setting and the place, and does not repeat the code."""
    value = '{"review@shop.example": {"code": "271828"}}'
    with pytest.raises(ConfigError, match=r"^OTP_TEST_CODES.+until") as caught:
        OtpSettings.load({**ENVIRON, "OTP_TEST_CODES": value})

    assert "271828" not in str(caught.value)


def test_keys_are_not_shown() -> None:
    """The repr of the settings has no key in it, and no error repeats a wrong one."""
    assert KEY not in repr(OtpSettings.load(ENVIRON))
    with pytest.raises(ConfigError) as caught:
        OtpSettings.load({**ENVIRON, "OTP_KEY": "no-key"})
    assert "no-key" not in str(caught.value)


def test_the_mails(tmp_path: Path) -> None:
    """Templates, language, names and autofill of mails are read with the settings."""
    (tmp_path / "nl.toml").write_bytes(toml(warning="Hush."))
    settings = OtpSettings.load(
        {
            **ENVIRON,
            "OTP_SENDER": "Acme <post@acme.example>",
            "OTP_TEMPLATES": str(tmp_path),
            "OTP_LOCALE": "nl-BE",
            "OTP_PRODUCT": "Acme",
            "OTP_PRODUCTS": '{"shop": "Acme Shop"}',
            "OTP_AUTOFILL_DOMAIN": "ACME.example",
        }
    )

    assert settings.otp_templates.by_language["nl"].warning == "Hush."
    assert settings.branding == Branding(
        "Acme <post@acme.example>", "nl-BE", "Acme", {"shop": "Acme Shop"}, "acme.example"
    )


def test_the_mails_need_no_setting() -> None:
    """Without settings, mails are in English, name no product and have no autofill line."""
    settings = OtpSettings.load(ENVIRON)

    assert settings.branding == Branding()
    assert settings.otp_templates == translations.shipped()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTP_PRODUCT", "Acme\r\nBcc: eve@example.com"),
        ("OTP_PRODUCT", "=?utf-8?q?Acme?="),
        ("OTP_PRODUCT", "https://acme.example"),
        ("OTP_PRODUCT", "x" * 61),
        ("OTP_PRODUCTS", '{"no client": "Acme"}'),
        ("OTP_PRODUCTS", '{"shop": "Acme\\nBcc: eve@example.com"}'),
        ("OTP_AUTOFILL_DOMAIN", "https://acme.example"),
        ("OTP_AUTOFILL_DOMAIN", "acme"),
        ("OTP_LOCALE", "English"),
        ("OTP_TEMPLATES", "/nowhere"),
    ],
)
def test_what_no_mail_can_say(name: str, value: str) -> None:
    """A setting that no mail can contain, such as a link or a header, is refused."""
    with pytest.raises(ConfigError, match=f"^{name}"):
        OtpSettings.load({**ENVIRON, name: value})


def test_an_unknown_language() -> None:
    """A deployment's own language without a template is refused."""
    with pytest.raises(ConfigError, match="OTP_LOCALE must be one that there is a template for"):
        OtpSettings.load({**ENVIRON, "OTP_LOCALE": "zh"})


def test_wrong_templates(tmp_path: Path) -> None:
    """Every mistake in the templates has a line that names its file."""
    (tmp_path / "en.toml").write_bytes(toml(warning="{code}", advice=None))
    (tmp_path / "fr.toml").write_bytes(b"plural")
    with pytest.raises(ConfigError) as caught:
        OtpSettings.load({**ENVIRON, "OTP_TEMPLATES": str(tmp_path)})

    places = [line.partition(": must")[0] for line in str(caught.value).splitlines()]
    assert places == [
        f"OTP_TEMPLATES: {tmp_path}/en.toml: warning",
        f"{tmp_path}/en.toml: advice: is required",
        f"{tmp_path}/fr.toml: Expected '=' after a key in a key/value pair (at end of document)",
    ]
