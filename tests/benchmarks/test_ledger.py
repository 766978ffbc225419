"""The measurement of the ledger: a real process, few mails."""

import pytest

from benchmarks import ledger
from benchmarks.bench import DATABASES, Bench
from shared.contracts import EmailDelivered, SendEmail, decode, encode

pytestmark = [pytest.mark.rabbit, pytest.mark.journey]


async def test_all_that_waits_is_recorded(bench: Bench) -> None:
    """The measurement ends when the ledger has handled as many events as there were."""
    found = await ledger.recorded(bench, 3000)

    assert found.rate > 0
    assert found.memory > 10_000_000
    assert 0 < found.processor < 0.1


def test_each_mail_has_a_command_and_then_its_outcome() -> None:
    """The events are contracts, each mail's outcome some thousands after its command."""
    made = list(ledger.events(2500))
    commands = [each.id for each in made if isinstance(each, SendEmail)]
    outcomes = [each.email_id for each in made if isinstance(each, EmailDelivered)]

    assert commands == outcomes
    assert len(set(commands)) == 2500
    assert all(isinstance(each, SendEmail) for each in made[: ledger.OUTCOME_LAG])
    for each in (made[0], made[-1]):
        assert decode(each.routing_key, encode(each)) == each


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", DATABASES)
async def test_each_kind_of_request_is_measured_on_each_database(bench: Bench, name: str) -> None:
    """Every request of every kind is answered from the mails that were filled in."""
    found = await ledger.reads(bench, name, mails=200, count=10, repetitions=1)

    assert [len(each.latencies) for each in found] == [10] * len(found)
    assert "one mail" in {each.name for each in found}
