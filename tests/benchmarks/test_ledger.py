"""The measurement of the ledger: a real process, few mails."""

import pytest

from benchmarks import ledger
from benchmarks.bench import Bench
from shared.contracts import EmailDelivered, SendEmail, decode, encode

pytestmark = [pytest.mark.rabbit, pytest.mark.journey]


async def test_all_that_waits_is_recorded(bench: Bench) -> None:
    """The measurement ends when the ledger has handled as many events as there were."""
    found = await ledger.recorded(bench, ledger.LedgerPlan(mails=3000, domains=20))

    assert found.rate > 0
    assert found.memory > 10_000_000
    assert 0 < found.processor < 0.1


def test_each_mail_has_a_command_and_then_its_outcome() -> None:
    """The events are contracts, each mail's outcome some thousands after its command."""
    made = list(ledger.events(ledger.LedgerPlan(mails=2500, domains=7)))
    commands = [each.id for each in made if isinstance(each, SendEmail)]
    outcomes = [each.email_id for each in made if isinstance(each, EmailDelivered)]

    assert commands == outcomes
    assert len(set(commands)) == 2500
    assert all(isinstance(each, SendEmail) for each in made[: ledger.OUTCOME_LAG])
    for each in (made[0], made[-1]):
        assert decode(each.routing_key, encode(each)) == each
