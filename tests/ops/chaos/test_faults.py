"""The faults, as data."""

import pytest

from ops.chaos.faults import BOUND_SECONDS, FAULTS
from ops.chaos.run import MAX_LOAD_SECONDS
from ops.stack.settings import SERVICES


def test_every_service_is_killed_and_rolled() -> None:
    """A service that is added is part of the faults."""
    for name in SERVICES:
        assert {f"kill-{name}", f"roll-{name}"} <= FAULTS.keys()


def test_no_fault_outlasts_its_load() -> None:
    """Load goes on all the time, so that a lost mail can be seen."""
    assert max(each.held_seconds for each in FAULTS.values()) < MAX_LOAD_SECONDS / 3


def test_only_a_killed_sender_doubles_in_silence() -> None:
    """All other copies must be explained by the ledger."""
    assert [each.name for each in FAULTS.values() if each.doubles] == ["kill-sender"]


@pytest.mark.parametrize("name", ["kill-sender", "cut-relay"])
def test_a_backlog_may_wait_for_a_lease_or_a_retry(name: str) -> None:
    """All other backlogs are drained as soon as the stack goes on."""
    longer = {each.name for each in FAULTS.values() if each.backlog_seconds > BOUND_SECONDS}

    assert name in longer
    assert len(longer) == 2
