"""The settings of the ledger."""

import pytest

from services.ledger.config import LedgerSettings
from services.ledger.mails import Retention
from shared.errors import ConfigError

NEEDED = {"AMQP_URL": "amqp://localhost", "SUPPRESSION_KEY": "00" * 32}


def test_the_defaults() -> None:
    """A broker and a key are enough: everything is kept for 90 days."""
    settings = LedgerSettings.load(NEEDED)

    assert settings.retention == Retention(90, 90, 90)


def test_bounces_that_count_for_good() -> None:
    """A first bounce counts for some days, or with 0 for good."""
    found = [LedgerSettings.load({**NEEDED, "LEDGER_BOUNCE_DAYS": each}) for each in ("1", "0")]

    assert [each.bounce_counts_for for each in found] == [86_400_000, None]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEDGER_MESSAGE_DAYS", "0"),
        ("LEDGER_HISTORY_DAYS", "1.5"),
        ("LEDGER_TOTAL_DAYS", "3661"),
        ("LEDGER_PURGE_SECONDS", "0"),
        ("LEDGER_BOUNCE_DAYS", "-1"),
        ("SUPPRESSION_KEY", f"{'00' * 32},{'11' * 32}"),
    ],
)
def test_what_cannot_be(name: str, value: str) -> None:
    """The error names a wrong setting."""
    with pytest.raises(ConfigError, match=f"^{name}: "):
        LedgerSettings.load({**NEEDED, name: value})
