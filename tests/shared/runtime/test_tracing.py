"""Tracing while it is off, and its settings; tests/shared/runtime/test_otel.py has it on."""

import subprocess
import sys

import pytest

from shared import delivery
from shared.errors import ConfigError
from shared.runtime import tracing
from shared.runtime.tracing import PublishSpans, SpanKind
from shared.topology import Owner
from tests.modules import ROOT
from tests.shared.consuming import arrived
from tests.shared.messages import mail
from tests.shared.tiny import TinySettings

REQUIRED = {"AMQP_URL": "amqp://localhost/"}
START_SECONDS = 60.0  # of Python and its libraries on a busy machine
IMPORTS = """
import importlib, sys
for service in sys.argv[1:]:
    importlib.import_module(f"services.{service}.service")
print(*(name for name in sys.modules if name.startswith("opentelemetry")))
"""


def test_the_library_is_not_imported() -> None:
    """A service without traces pays nothing for the library at its start."""
    done = subprocess.run(  # noqa: S603 -- our own modules
        [sys.executable, "-c", IMPORTS, *(each for each in Owner)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=True,
    )

    assert done.stdout.strip() == ""


def test_without_an_endpoint_nothing_is_recorded() -> None:
    """A span is one object for all, and no message or log has a trace."""
    tracing.start(TinySettings.load(REQUIRED))
    message = arrived("a")
    item = PublishSpans().begin(delivery.publishing(mail("a")))
    with tracing.processing(message) as span, tracing.span("x", SpanKind.CLIENT, {}) as other:
        assert span is other
        assert tracing.traced(item, span) is item
        assert (span.trace_id, span.headers, tracing.traceparent()) == ("", {}, None)
        assert tracing.origins(2) == [{}, {}]
    tracing.stop()


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
    ],
)
def test_wrong_settings_are_refused(variable: str, text: str) -> None:
    """A mistake is reported at the start, and not by traces that never come."""
    with pytest.raises(ConfigError, match=variable):
        TinySettings.load({**REQUIRED, variable: text})
