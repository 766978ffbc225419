"""The gateway's settings."""

import pytest

from services.gateway.config import GatewaySettings
from shared.errors import ConfigError
from tests.gateway.feedback.samples import (
    LOGIN,
    MAILGUN_KEY,
    RESEND_SECRET,
    TOPIC,
    sendgrid_key,
)

GOOD = {
    "AMQP_URL": "amqp://127.0.0.1",
    "GATEWAY_ADMIN_TOKEN": "t" * 32,
    "GATEWAY_KEY_SECRET": "0123456789abcdef" * 4,
}


def test_only_the_broker_and_the_secrets_must_be_set() -> None:
    """Everything but the broker and the secrets has a default."""
    settings = GatewaySettings.load(GOOD)

    assert settings.gateway_port == 8080
    assert settings.gateway_max_body == 12 * 1024 * 1024


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_ADMIN_TOKEN", ""),
        ("GATEWAY_ADMIN_TOKEN", "short"),
        ("GATEWAY_KEY_SECRET", ""),
        ("GATEWAY_KEY_SECRET", "a password that somebody made up"),
        ("GATEWAY_KEY_SECRET", "abcd" * 15),
        ("GATEWAY_KEY_SECRET", "00" * 32),
        ("GATEWAY_MAX_BODY", str(64 * 1024 * 1024)),
        ("GATEWAY_ANSWER_SECONDS", "60"),
        ("GATEWAY_CLIENT_RATE", "-1"),
        ("GATEWAY_PROXIES", '["10.0.0.1/8"]'),
        ("GATEWAY_REMEMBER", str(7 * 86_400)),
        ("GATEWAY_SES_TOPICS", '["arn:aws:sqs:eu-west-1:123456789012:events"]'),
        ("GATEWAY_SENDGRID_KEY", "no public key"),
        ("GATEWAY_POSTMARK_LOGIN", "postmark:short"),
        ("GATEWAY_POSTMARK_LOGIN", "without-a-user-and-colon"),
        ("GATEWAY_MAILGUN_KEY", "too short"),
        ("GATEWAY_RESEND_SECRET", "whsec_c2hvcnQ="),
    ],
)
def test_a_weak_or_missing_setting_stops_the_start(name: str, value: str) -> None:
    """A weak or missing setting stops the start; the error has its name, not its value."""
    with pytest.raises(ConfigError) as caught:
        GatewaySettings.load(GOOD | {name: value})

    assert name in str(caught.value)
    assert not value or value not in str(caught.value).replace("60 ", "")


def test_secrets_are_not_shown() -> None:
    """Printed settings have no secret."""
    shown = repr(GatewaySettings.load(GOOD))

    assert GOOD["GATEWAY_ADMIN_TOKEN"] not in shown
    assert GOOD["GATEWAY_KEY_SECRET"] not in shown


def test_the_secrets_of_providers_are_not_shown() -> None:
    """Printed settings have none of the secrets of mail providers; a public key is none."""
    given = {
        "GATEWAY_POSTMARK_LOGIN": LOGIN,
        "GATEWAY_MAILGUN_KEY": MAILGUN_KEY,
        "GATEWAY_RESEND_SECRET": RESEND_SECRET,
    }

    settings = GatewaySettings.load(
        GOOD
        | given
        | {"GATEWAY_SES_TOPICS": f'["{TOPIC}"]', "GATEWAY_SENDGRID_KEY": sendgrid_key()}
    )

    assert settings.gateway_ses_topics == (TOPIC,)
    assert not [secret for secret in given.values() if secret in repr(settings)]
