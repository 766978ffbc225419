"""The faults that addresses ask for."""

import pytest

from ops.simulator.magic import NO_FAULT, Fault, Stage, fault_at

ASKED = "As this address asks for"


@pytest.mark.parametrize(
    ("address", "stage", "act"),
    [
        ("reply-rcpt-550-5-1-1@x.example", "rcpt", Fault(reply=f"550 5.1.1 {ASKED}")),
        ("Reply-RCPT-550-5-1-1@x.example", "rcpt", Fault(reply=f"550 5.1.1 {ASKED}")),
        ("reply-mail-421@x.example", "mail", Fault(reply=f"421 {ASKED}")),
        ("reply-data-451-4-3-0@x.example", "data", Fault(reply=f"451 4.3.0 {ASKED}")),
        ("reply-dot-554@x.example", "dot", Fault(reply=f"554 {ASKED}")),
        ("reply-rcpt-550+anna@x.example", "rcpt", Fault(reply=f"550 {ASKED}")),
        ("anna+reply-rcpt-550@x.example", "rcpt", Fault(reply=f"550 {ASKED}")),
        ("drop-data@x.example", "data", Fault(cut=True)),
        ("drop-dot@x.example", "dot", Fault(cut=True)),
        ("drop-after-dot@x.example", "dot", Fault(cut_after=True)),
        ("slow-250-dot@x.example", "dot", Fault(delay=0.25)),
        ("greylist-60@x.example", "rcpt", Fault(greylist=60)),
        ("slow-9-rcpt+drop-rcpt@x.example", "rcpt", Fault(delay=0.009, cut=True)),
    ],
)
def test_asks(address: str, stage: Stage, act: Fault) -> None:
    """Each fault happens at its stage, in any case and sub-address."""
    assert fault_at(stage, [address]) == act


@pytest.mark.parametrize(
    "address",
    [
        "",
        "anna@x.example",
        "anna@reply-rcpt-550.example",
        "reply-rcpt@x.example",
        "reply-rcpt-250@x.example",
        "reply-rcpt-5500@x.example",
        "reply-rcpt-550-9-1-1@x.example",
        "reply-helo-550@x.example",
        "drop-after-rcpt@x.example",
        "slow-9999999-rcpt@x.example",
        "slow-\u0661-rcpt@x.example",
        "greylist-@x.example",
    ],
)
def test_ordinary(address: str) -> None:
    """An address that is not exactly of the form is an ordinary one."""
    stages: list[Stage] = ["mail", "rcpt", "data", "dot"]

    assert {fault_at(stage, [address]) for stage in stages} == {NO_FAULT}


def test_other_stage() -> None:
    """A fault is of one stage alone."""
    assert fault_at("dot", ["reply-rcpt-550@x.example", "greylist-9@x.example"]) == NO_FAULT


def test_first_decides() -> None:
    """Of several recipients, the first with a fault at the stage decides."""
    recipients = ["anna@x", "drop-data@x", "reply-dot-451@x", "reply-dot-554@x"]

    assert fault_at("dot", recipients).reply == f"451 {ASKED}"
