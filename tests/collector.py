"""A receiver of traces by OTLP over HTTP, in a thread: the services of a test send their spans."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from shared.runtime import tracing
from tests.shared.tiny import TinySettings
from tests.waiting import until


@dataclass(frozen=True)
class Spanned:
    """A span that has come, with its ids in hex."""

    service: str
    name: str
    kind: str
    trace_id: str
    id: str
    parent: str  # empty for none
    attributes: Mapping[str, Any]
    links: Sequence[str]  # ids of traces
    failed: bool


class Collector:
    """The spans that have come, and the requests as they came: path, headers, body."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Mapping[str, str], bytes]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        """The address, without a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def spans(self) -> list[Spanned]:
        """All spans so far."""
        with self._lock:
            bodies = [body for path, _, body in self.requests if path == "/v1/traces"]
        return [span for body in bodies for span in _spans(body)]

    @property
    def exports(self) -> list[Mapping[str, str]]:
        """The headers of all requests with spans."""
        with self._lock:
            return [headers for path, headers, _ in self.requests if path == "/v1/traces"]

    def holds(self, text: bytes) -> bool:
        """Return whether a text is in anything that has come."""
        with self._lock:
            return any(text in body for path, _, body in self.requests if path == "/v1/traces")

    async def trace(self, trace_id: str, *names: str, parent: str | None = None) -> list[Spanned]:
        """Wait until a trace has spans of names that begin so; return all of its spans.

        Each process sends its own spans, so a span may come before its parent. Wait until all are
        one tree, under the span `parent` if there is one.
        """
        found: list[Spanned] = []

        async def complete() -> bool:
            found[:] = self.of(trace_id)
            has_all = all(any(each.name.startswith(name) for each in found) for name in names)
            above = {each.parent for each in roots(found)}
            return has_all and len(above) == 1 and parent in {None, *above}

        await until(complete)
        return found

    async def request(self, path: str, trace_id: str) -> Mapping[str, str]:
        """Wait for a request of a trace to a path, and return its headers."""
        found: list[Mapping[str, str]] = []

        async def came() -> bool:
            with self._lock:
                found[:] = [headers for to, headers, _ in self.requests if to == path]
            found[:] = [each for each in found if trace_id in each.get("traceparent", "")]
            return bool(found)

        await until(came)
        return found[0]

    def of(self, trace_id: str) -> list[Spanned]:
        """Return the spans of a trace so far."""
        return [each for each in self.spans if each.trace_id == trace_id]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            """Records each POST."""

            def do_POST(self) -> None:
                """Record a request."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with collector._lock:
                    collector.requests.append((self.path, dict(self.headers), body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        return Handler

    def serve(self) -> None:
        """Answer until `close`."""
        self._server.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector for the length of the block."""
    collector = Collector()
    thread = threading.Thread(target=collector.serve)
    thread.start()
    try:
        yield collector
    finally:
        collector.close()
        thread.join()


@contextmanager
def recording(**environ: str) -> Iterator[Collector]:
    """Record the spans of this process; `of` and `spans` have them all after `tracing.stop`."""
    with collecting() as collector:
        url = {"AMQP_URL": "amqp://localhost/", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        tracing.start(TinySettings.load({**url, **environ}))
        try:
            yield collector
        finally:
            tracing.stop()


def roots(spans: Sequence[Spanned]) -> list[Spanned]:
    """Return the spans whose parent is not here."""
    ids = {each.id for each in spans}
    return [each for each in spans if each.parent not in ids]


def chain(spans: Sequence[Spanned], last: Spanned) -> list[str]:
    """Return the names from the first span of a trace that is here to `last`."""
    by_id = {each.id: each for each in spans}
    names = [last.name]
    while (before := by_id.get(last.parent)) is not None:
        names.insert(0, before.name)
        last = before
    return names


def _spans(body: bytes) -> Iterator[Spanned]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _attributes(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _spanned(str(service), span)


def _spanned(service: str, span: trace_pb2.Span) -> Spanned:
    return Spanned(
        service=service,
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        attributes=_attributes(span.attributes),
        links=[each.trace_id.hex() for each in span.links],
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
    )


def _attributes(found: Any) -> Mapping[str, Any]:  # noqa: ANN401 -- a container of protobuf
    return {each.key: _value(each.value) for each in found}


def _value(value: AnyValue) -> object:
    return getattr(value, value.WhichOneof("value") or "string_value")
