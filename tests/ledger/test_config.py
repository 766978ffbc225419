"""The settings of the ledger."""

import pytest

from services.ledger.config import LedgerSettings
from services.ledger.mails import Retention
from shared.errors import ConfigError


def test_the_defaults() -> None:
    """A broker is enough: everything is kept for 90 days."""
    settings = LedgerSettings.load({"AMQP_URL": "amqp://localhost"})

    assert settings.retention == Retention(90, 90, 90)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEDGER_MESSAGE_DAYS", "0"),
        ("LEDGER_HISTORY_DAYS", "1.5"),
        ("LEDGER_TOTAL_DAYS", "3661"),
        ("LEDGER_PURGE_SECONDS", "0"),
    ],
)
def test_what_cannot_be(name: str, value: str) -> None:
    """The error names a wrong setting."""
    with pytest.raises(ConfigError, match=f"^{name}: "):
        LedgerSettings.load({"AMQP_URL": "amqp://localhost", name: value})
