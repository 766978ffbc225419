"""The behaviour as data."""

import pytest
from pydantic import ValidationError

from ops.simulator.behaviour import EXTENSIONS, Behaviour


def test_good_manners() -> None:
    """By default there is no delay, no refusal, and there are all extensions."""
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
        '{"extensions": ["CHUNKING"]}',
        '{"extensions": ["SIZE", "SIZE"]}',
        "[]",
        "no JSON",
    ],
)
def test_strict(text: str) -> None:
    """An unknown field, a wrong type or a senseless value is an error."""
    with pytest.raises(ValidationError):
        Behaviour.model_validate_json(text)
