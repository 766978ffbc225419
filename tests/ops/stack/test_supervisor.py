"""The check of the settings of all services."""

import pytest

from ops.stack import supervisor
from ops.stack.child import ServiceProgram
from services.otp.config import OtpSettings
from shared.errors import ConfigError

KEYS = OtpSettings.model_fields["otp_key"].description


def program(name: str, **environ: str) -> ServiceProgram:
    """Return a service with these variables alone."""
    return ServiceProgram(name, (), {"AMQP_URL": "amqp://127.0.0.1/", **environ}, "")


def test_good_settings_are_passed() -> None:
    """Correct settings pass."""
    supervisor.check([program("classifier", LOG_LEVEL="INFO")])


def test_mistakes_of_all_are_reported_by_their_service() -> None:
    """All mistakes of all services are reported together."""
    with pytest.raises(ConfigError) as caught:
        supervisor.check(
            [program("classifier", CLASSIFIER_MODE="x"), program("otp", OTP_TRISE="3")]
        )

    assert str(caught.value).splitlines() == [
        "classifier: CLASSIFIER_MODE: Input should be 'counts' or 'evidence'",
        "otp: OTP_TRISE: there is no such setting; perhaps OTP_TRIES?",
        f"otp: OTP_KEY: is required: {KEYS}",
        f"otp: SEALING_KEY: is required: {KEYS}",
    ]
