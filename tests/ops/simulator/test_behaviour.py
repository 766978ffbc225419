"""The behaviour as data, and the faults that addresses ask for."""

import pytest
from pydantic import ValidationError

from ops.simulator.behaviour import EXTENSIONS, NO_FAULT, Behaviour, Fault, Stage, fault_at


def test_good_manners() -> None:
    """By default there is no delay, no refusal, and there are all extensions but CHUNKING."""
    behaviour = Behaviour.model_validate_json("{}")

    assert behaviour == Behaviour()
    assert behaviour.extensions == EXTENSIONS


def test_round_trip() -> None:
    """A behaviour survives its JSON."""
    text = """{"latency_ms": 5, "rate": {"per_second": 2, "burst": 3},
               "refuse": {"ehlo": "502 5.5.1 No"}, "extensions": ["SIZE"]}"""
    behaviour = Behaviour.model_validate_json(text)

    assert Behaviour.model_validate_json(behaviour.model_dump_json()) == behaviour


@pytest.mark.parametrize(
    "text",
    [
        '{"latency": 5}',
        '{"latency_ms": -1}',
        '{"latency_ms": "5"}',
        '{"latency_ms": 1e9}',
        '{"served_at_once": 0}',
        '{"require_tls": 1}',
        '{"rate": {"per_second": 0}}',
        '{"rate": {"per_second": 1, "each": 1}}',
        '{"refuse": {"connect": "220 Welcome"}}',
        '{"refuse": {"connect": "554 5.7.1 No\\r\\n250 Yes"}}',
        '{"refuse": {"connect": "554\\n"}}',
        '{"extensions": ["BINARYMIME"]}',
        '{"bdat_fault": "odd"}',
        '{"extensions": ["SIZE", "SIZE"]}',
        "[]",
        "no JSON",
    ],
)
def test_strict(text: str) -> None:
    """An unknown field, a wrong type or a senseless value is an error."""
    with pytest.raises(ValidationError):
        Behaviour.model_validate_json(text)


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
