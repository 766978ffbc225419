"""The settings of the otp service."""

import pytest

from services.otp.config import OtpSettings
from shared.errors import ConfigError

KEY = "0f" * 32
ENVIRON = {"AMQP_URL": "amqp://localhost", "OTP_KEY": KEY, "SEALING_KEY": KEY}


def test_the_keys_are_enough() -> None:
    """With a broker and the two keys the service runs: six digits, ten minutes, five guesses."""
    settings = OtpSettings.load(ENVIRON)

    assert settings.otp_digits == 6
    assert settings.otp_lifetime == 600
    assert settings.otp_tries == 5


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
        ("OTP_SENDER", "nobody"),
    ],
)
def test_what_cannot_be(name: str, value: str) -> None:
    """A wrong setting is named in the error."""
    with pytest.raises(ConfigError, match=f"^{name}: "):
        OtpSettings.load({**ENVIRON, name: value})


def test_keys_are_not_shown() -> None:
    """The repr of the settings has no key in it, and no error repeats a wrong one."""
    assert KEY not in repr(OtpSettings.load(ENVIRON))
    with pytest.raises(ConfigError) as caught:
        OtpSettings.load({**ENVIRON, "OTP_KEY": "no-key"})
    assert "no-key" not in str(caught.value)
