"""The settings of the classifier."""

import pytest

from services.classifier.config import ClassifierSettings
from services.classifier.rule import Requirements, VerdictRule
from shared.errors import ConfigError


def test_the_defaults() -> None:
    """A broker is enough: a thousand deliveries, ids kept for thirty days, no cache."""
    settings = ClassifierSettings.load({"AMQP_URL": "amqp://localhost"})

    assert settings.rule == VerdictRule(1000)
    assert settings.classifier_remember == 30 * 24 * 3600
    assert settings.classifier_cache_seconds == 0


def test_the_mode_evidence() -> None:
    """The mode `evidence` has requirements of its own, which can be set."""
    settings = ClassifierSettings.load(
        {
            "AMQP_URL": "amqp://localhost",
            "CLASSIFIER_MODE": "evidence",
            "CLASSIFIER_THRESHOLD": "10",
            "CLASSIFIER_RECIPIENTS": "7",
            "CLASSIFIER_UNDETERMINED": "0.2",
        }
    )

    assert settings.rule == VerdictRule(10, Requirements(7, 0.2))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLASSIFIER_THRESHOLD", "-1"),
        ("CLASSIFIER_THRESHOLD", "many"),
        ("CLASSIFIER_MODE", "guess"),
        ("CLASSIFIER_RECIPIENTS", "0"),
        ("CLASSIFIER_UNDETERMINED", "1.5"),
        ("CLASSIFIER_CACHE_SECONDS", "-1"),
        ("CLASSIFIER_REMEMBER", "3600"),
        ("CLASSIFIER_PURGE_SECONDS", "0"),
    ],
)
def test_what_cannot_be(name: str, value: str) -> None:
    """The error names a wrong setting; ids must be kept for longer than a message may come back."""
    with pytest.raises(ConfigError, match=f"^{name}: "):
        ClassifierSettings.load({"AMQP_URL": "amqp://localhost", name: value})
