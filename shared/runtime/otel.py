"""Spans that are recorded by OpenTelemetry, and sent by OTLP over HTTP in a thread of their own.

Only this module imports the library. Its own variables, such as OTEL_BSP_MAX_QUEUE_SIZE and
OTEL_RESOURCE_ATTRIBUTES, are read by the library itself.
"""

import threading
import uuid
from collections.abc import Mapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import Self

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.re import parse_env_headers

from shared.config import Settings
from shared.runtime import tracing
from shared.runtime.tracing import Attributes, Span, SpanKind, Trace

STOP_SECONDS = 3.0  # to send the last spans; with DRAIN_SECONDS under the 30 until a kill
MAX_LINKS = 512  # of a span: as many as a batch has messages
MAX_HEADER_CHARS = 512  # that every participant propagates (W3C Trace Context 3.3.1.5)
TRACES_PATH = "/v1/traces"  # behind the endpoint, which is that of all signals

LAST_SPANS = "last spans"  # the thread that sends them

_PROPAGATOR = TraceContextTextMapPropagator()


class RecordedSpan(Span):
    """A span of the library; of a trace that is not sampled, one that is only passed on."""

    def __init__(self, span: trace.Span) -> None:
        self.span = span
        self._before: Token[Span] | None = None

    @property
    def headers(self) -> Trace:
        """The headers by which another process continues the trace."""
        found: dict[str, str] = {}
        _PROPAGATOR.inject(found, trace.set_span_in_context(self.span))
        return found

    @property
    def trace_id(self) -> str:
        """The id of the trace."""
        return trace.format_trace_id(self.span.get_span_context().trace_id)

    def set(self, attributes: Attributes) -> None:
        """Add attributes, except those that are None."""
        self.span.set_attributes(_known(attributes))

    def fail(self, error: str) -> None:
        """Mark it as failed. The text of an error may hold an address, and stays out."""
        self.span.set_attribute("error.type", error)
        self.span.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        """End it."""
        self.span.end()

    def __enter__(self) -> Self:
        self._before = tracing.current.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.fail(kind.__name__)
        if self._before is not None:
            tracing.current.reset(self._before)
        self.end()


class OtlpTracer:
    """Records spans as the settings have it, and sends them."""

    def __init__(self, settings: Settings) -> None:
        self._provider = TracerProvider(
            sampler=_sampler(settings.otel_traces_sampler, settings.otel_traces_sampler_arg),
            resource=Resource.create(
                {
                    "service.name": settings.otel_service_name or f"postrider-{settings.service}",
                    "service.namespace": "postrider",
                    "service.instance.id": str(uuid.uuid4()),
                }
            ),
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_links=MAX_LINKS),
        )
        endpoint = (settings.otel_exporter_otlp_endpoint or "").rstrip("/")
        headers = settings.otel_exporter_otlp_headers
        exporter = OTLPSpanExporter(
            endpoint=f"{endpoint}{TRACES_PATH}",
            headers=parse_env_headers(headers, liberal=True) if headers else None,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("postrider")

    def span(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        parent: Trace | None,
        links: Sequence[Trace],
    ) -> RecordedSpan:
        """Return a span that begins now: see `tracing.span`."""
        before = _present_span() if parent is None else _remote(parent)
        begun = self._tracer.start_span(
            name,
            context=trace.set_span_in_context(before),
            kind=trace.SpanKind[kind.name],
            attributes=_known(attributes),
            links=[Link(context) for each in links if (context := _context(each)).is_valid],
            record_exception=False,
            set_status_on_exception=False,
        )
        return RecordedSpan(begun)

    def stop(self) -> None:
        """Send the spans that wait. A thread that lasts longer ends with the process."""
        ending = threading.Thread(target=self._provider.shutdown, name=LAST_SPANS, daemon=True)
        ending.start()
        ending.join(STOP_SECONDS)


def _present_span() -> trace.Span:
    present = tracing.current.get()
    return present.span if isinstance(present, RecordedSpan) else trace.INVALID_SPAN


def _context(headers: Trace) -> trace.SpanContext:
    return _remote(headers).get_span_context()


def _remote(headers: Trace) -> trace.Span:
    """Return the span that headers name; an invalid one if they are malformed."""
    short = {name: value for name, value in headers.items() if len(value) <= MAX_HEADER_CHARS}
    return trace.get_current_span(_PROPAGATOR.extract(short))


def _known(attributes: Attributes) -> Mapping[str, tracing.Attribute]:
    return {name: value for name, value in attributes.items() if value is not None}


def _sampler(name: str, argument: float) -> sampling.Sampler:
    """Return a sampler by the name that OTEL_TRACES_SAMPLER has for it."""
    match name.removeprefix("parentbased_"):
        case "always_on":
            root: sampling.Sampler = sampling.ALWAYS_ON
        case "always_off":
            root = sampling.ALWAYS_OFF
        case _:
            root = sampling.TraceIdRatioBased(argument)
    return sampling.ParentBased(root) if name.startswith("parentbased_") else root
