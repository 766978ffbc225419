"""The settings of the classifier."""

import pytest

from services.classifier.config import ClassifierSettings
from shared.errors import ConfigError


def test_the_defaults() -> None:
    """With a broker alone the classifier runs: a thousand deliveries, thirty days of memory."""
    settings = ClassifierSettings.load({"AMQP_URL": "amqp://localhost"})

    assert settings.classifier_threshold == 1000
    assert settings.classifier_remember == 30 * 24 * 3600


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLASSIFIER_THRESHOLD", "-1"),
        ("CLASSIFIER_THRESHOLD", "many"),
        ("CLASSIFIER_REMEMBER", "3600"),
        ("CLASSIFIER_PURGE_SECONDS", "0"),
    ],
)
def test_what_cannot_be(name: str, value: str) -> None:
    """A wrong setting is named; ids must be known for longer than a message may come back."""
    with pytest.raises(ConfigError, match=f"^{name}: "):
        ClassifierSettings.load({"AMQP_URL": "amqp://localhost", name: value})
