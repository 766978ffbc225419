"""Spans of traces, from the request over each queue to the SMTP reply; off by default.

While they are off, a span is one object that records nothing, and OpenTelemetry is not imported.
Names and attributes follow OpenTelemetry's semantic conventions for HTTP and messaging; those that
begin with `postrider.` are ours. A span has no address, subject, text or code of a mail.
"""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from enum import Enum
from http import HTTPMethod, HTTPStatus
from types import TracebackType
from typing import Protocol, Self

from shared.config import Settings
from shared.delivery import TRACE, Delivery, Publishing
from shared.runtime import log

MAX_NAME_CHARS = 100  # of an id or a type that another program chose
TEMPORARY = "(temporary)"  # the name of queues that each have another one
TRACE_ID = "trace_id"  # in log lines
UNCONFIRMED = "unconfirmed"  # the error of a message that has no confirm

Attribute = str | int | float | bool
Attributes = Mapping[str, Attribute | None]
PARENT = TRACE[0]
Trace = Mapping[str, str]  # the headers `traceparent` and `tracestate` (W3C Trace Context)


class SpanKind(Enum):
    """The side of an exchange that a span shows."""

    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Span:
    """A span that records nothing. A block that it is entered for ends it."""

    @property
    def headers(self) -> Trace:
        """The headers by which another process continues the trace."""
        return {}

    @property
    def trace_id(self) -> str:
        """The id of the trace, 32 hex digits; empty if there is none."""
        return ""

    def set(self, attributes: Attributes) -> None:
        """Add attributes, except those that are None."""

    def fail(self, error: str) -> None:
        """Mark it as failed, by a word for the kind of the error."""

    def end(self) -> None:
        """End a span that was not entered."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


class Tracer(Protocol):
    """Records spans."""

    def span(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        parent: Trace | None,
        links: Sequence[Trace],
    ) -> Span:
        """Return a span that begins now: see the function of that name."""

    def stop(self) -> None:
        """Send the spans that wait, for a limited time."""


_NOTHING = Span()
current: ContextVar[Span] = ContextVar("span", default=_NOTHING)
_origins: ContextVar[Sequence[Trace] | None] = ContextVar("origins", default=None)
_tracer: Tracer | None = None


def start(settings: Settings) -> None:
    """Record spans from now on, if the settings have an endpoint to send them to."""
    global _tracer  # noqa: PLW0603 -- a process has one tracing, as it has one log
    if settings.otel_exporter_otlp_endpoint is not None:
        # The library takes a fifth of a second to import, which is paid by those who use it.
        from shared.runtime import otel  # noqa: PLC0415

        _tracer = otel.OtlpTracer(settings)


def stop() -> None:
    """Record no more spans, and send those that wait, for a limited time."""
    global _tracer
    tracer, _tracer = _tracer, None
    if tracer is not None:
        tracer.stop()


def span(
    name: str,
    kind: SpanKind,
    attributes: Attributes,
    parent: Trace | None = None,
    links: Sequence[Trace] = (),
) -> Span:
    """Return a span that begins now.

    It belongs to `parent`, the headers of a request or message, and begins a trace if they hold no
    valid one. Without a parent it belongs to the current span.
    """
    return _NOTHING if _tracer is None else _tracer.span(name, kind, attributes, parent, links)


def traceparent() -> str | None:
    """Return the current span as a header, None outside of any."""
    return current.get().headers.get(PARENT)


def serving(
    method: str,
    route: str | None,
    url: Callable[[], Attributes],
    headers: Callable[[str], Sequence[str]],
) -> Span:
    """Return the span of an HTTP request, and add its trace to the log.

    `headers` returns the values of a header. A request with two of `traceparent` has none (W3C
    Trace Context 3.2.1).
    """
    if _tracer is None:
        return _NOTHING
    known = method if method in HTTPMethod.__members__ else None
    about = {"http.request.method": known or "_OTHER", "http.route": route, **url()}
    name = " ".join(filter(None, (known or "HTTP", route)))
    parent = {each: ",".join(headers(each)) for each in TRACE}
    return _logged(_tracer.span(name, SpanKind.SERVER, about, parent, ()))


def answered(span: Span, status: int) -> None:
    """Add the status of an HTTP response to its request's span."""
    span.set({"http.response.status_code": status})
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.fail(str(status))


def receiving(recipients: int) -> Span:
    """Return the span of a mail that comes in by SMTP, and add its trace to the log.

    It begins a trace: SMTP has no header for one of the client's.
    """
    if _tracer is None:
        return _NOTHING
    about: Attributes = {
        "network.protocol.name": "smtp",
        "postrider.smtp.recipients": recipients,
    }
    return _logged(_tracer.span("SMTP DATA", SpanKind.SERVER, about, {}, ()))


def replied(span: Span, reply: str) -> None:
    """Add the codes of the reply to a mail to its span, and remove its trace from the log.

    A mail that is refused for good is its client's mistake, and no failure.
    """
    if span is _NOTHING:
        return
    code, enhanced, *_ = reply.split(" ")
    span.set({"postrider.smtp.reply_code": int(code), "postrider.smtp.enhanced_status": enhanced})
    if code.startswith("4"):
        span.fail(code)
    log.unbind(TRACE_ID)


def processing(message: Delivery) -> Span:
    """Return the span of the handling of a delivery, and add its trace to the log.

    It belongs to the trace of the message, so that a mail has one trace from its request to the
    last reply, over all attempts.
    """
    if _tracer is None:
        return _NOTHING
    _origins.set(None)
    attributes = {
        **_operation("process", "process", message.queue),
        "messaging.message.id": _safe(message.message_id),
        "messaging.message.conversation_id": _safe(message.correlation_id),
        "postrider.message.type": _safe(message.type),
        "postrider.delivery.attempt": message.attempt,
    }
    name = f"process {message.queue}"
    return _logged(_tracer.span(name, SpanKind.CONSUMER, attributes, message.trace, ()))


def processed(span: Span, end: str) -> None:
    """Add the end of a handling to its span, as the metrics name it."""
    span.set({"postrider.delivery.end": end})
    if end != "done":
        span.fail(end)


def processing_batch(queue: str, messages: Sequence[Delivery]) -> Span:
    """Return the span of the handling of a batch, with a link to the trace of each message."""
    if _tracer is None:
        return _NOTHING
    attributes = {
        **_operation("process", "process", queue),
        "messaging.batch.message_count": len(messages),
    }
    links = [each.trace for each in messages]
    return _tracer.span(f"process {queue}", SpanKind.CONSUMER, attributes, {}, links)


def handle_together(messages: Sequence[Delivery]) -> None:
    """Note the messages of a batch that this task handles, for `origins`."""
    if _tracer is not None:
        _origins.set([each.trace for each in messages])


def origins(count: int) -> Sequence[Trace]:
    """Return the traces of the `count` messages that this task handles, in their order."""
    of_batch = _origins.get()
    return [current.get().headers] * count if of_batch is None else of_batch


def publishing(item: Publishing) -> Span:
    """Return the span of a publish, until its confirm.

    Outside of any span it belongs to the trace in the headers, which was kept with the message.
    """
    if _tracer is None:
        return _NOTHING
    is_reply = not item.exchange  # to the queue of an asker, of which each has another
    name = TEMPORARY if is_reply else f"{item.exchange}:{item.routing_key}"
    attributes = {
        **_operation("publish", "send", name),
        "messaging.destination.temporary": is_reply or None,
        "messaging.rabbitmq.destination.routing_key": None if is_reply else item.routing_key,
        "messaging.message.id": _safe(item.message_id),
        "messaging.message.conversation_id": _safe(item.correlation_id),
        "messaging.message.body.size": len(item.body),
        "postrider.message.type": _safe(item.type),
    }
    parent = None if current.get() is not _NOTHING else _trace_of(item)
    return _tracer.span(f"publish {name}", SpanKind.PRODUCER, attributes, parent, ())


def traced(item: Publishing, span: Span) -> Publishing:
    """Return a message whose consumer continues the trace of a span."""
    if span is _NOTHING:
        return item
    others = {name: value for name, value in item.headers.items() if name not in TRACE}
    return replace(item, headers={**others, **span.headers})


class PublishSpans:
    """The spans of messages that are published together, each until its own confirm."""

    def __init__(self) -> None:
        self._spans: dict[str, Span] = {}

    def begin(self, item: Publishing) -> Publishing:
        """Begin the span of a message, and return the message with its trace."""
        if _tracer is None:
            return item
        begun = self._spans[item.message_id] = publishing(item)
        return traced(item, begun)

    def end(self, ends: Mapping[str, Exception | None]) -> None:
        """End all spans, by the failures of messages by their ids, None of a confirmed one."""
        for message_id, each in self._spans.items():
            error = ends.get(message_id, TimeoutError(UNCONFIRMED))
            if error is not None:
                each.fail(type(error).__name__)
            each.end()
        self._spans.clear()


def _operation(name: str, kind: str, destination: str) -> dict[str, Attribute | None]:
    return {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": destination,
    }


def _trace_of(item: Publishing) -> Trace:
    found = ((name, item.headers.get(name)) for name in TRACE)
    return {name: value for name, value in found if isinstance(value, str)}


def _safe(text: str) -> str:
    """Return a text that another program chose as logs and spans may have it."""
    return log.without_address(text[:MAX_NAME_CHARS])


def _logged(begun: Span) -> Span:
    if begun.trace_id:
        log.bind({TRACE_ID: begun.trace_id})
    return begun
