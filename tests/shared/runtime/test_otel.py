"""Tracing that records, with a collector: whose trace a span continues, and how it ends."""

import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from shared import delivery
from shared.batch_consumer import BatchConsumer
from shared.consumer import Consumer, Subscription
from shared.contracts import Contract, SendEmail
from shared.delivery import Publishing
from shared.errors import Reject, Unavailable
from shared.runtime import otel, tracing
from shared.runtime.tracing import PublishSpans, SpanKind
from tests.collector import Collector, Spanned, recording
from tests.shared.consuming import Handler, Publisher, arrived, facts, is_settled, raising
from tests.shared.messages import QUEUE, mail
from tests.shared.tag import RecordingTag
from tests.shared.tiny import TinySettings

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
NOT_SAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-00"
# The flags of a traceparent; 2 is for an id that is random (W3C Trace Context Level 2).
RECORDED, NOT_RECORDED = ("01", "03"), ("00", "02")


def settings(endpoint: str) -> TinySettings:
    """Return the settings of a service with traces."""
    environ = {"AMQP_URL": "amqp://localhost/", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    return TinySettings.load(environ)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Run a collector to which this process sends its spans."""
    with recording() as running:
        yield running


def ended(collector: Collector) -> list[Spanned]:
    """Return all spans, after they were sent."""
    tracing.stop()
    return collector.spans


def one(collector: Collector) -> Spanned:
    """Return the one span."""
    [span] = ended(collector)
    return span


class Traces(Publisher):
    """Records the spans in which messages are published."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[tracing.Trace] = []

    async def __call__(self, message: Publishing) -> None:
        """Publish in a span, as a broker does."""
        with tracing.publishing(message) as span:
            traced = tracing.traced(message, span)
            self.headers.append({name: str(value) for name, value in traced.headers.items()})
            await super().__call__(traced)


async def handled(handler: Handler, publish: Publisher, **trace: str) -> RecordingTag:
    """Handle one delivery with some headers to its end."""
    tag = RecordingTag()
    consumer = Consumer(Subscription(QUEUE, {SendEmail: handler}, 8), publish)
    consumer.take(replace(arrived("a"), trace=trace), tag)
    await is_settled(tag)
    await consumer.drain(1)
    return tag


async def test_results_continue_the_trace(collector: Collector) -> None:
    """A handling belongs to its message's trace, and what it returned to the handling."""
    publish = Traces()
    await handled(facts, publish, traceparent=PARENT, tracestate="vendor=1")
    spans = {each.kind: each for each in ended(collector)}
    process, result = spans["CONSUMER"], spans["PRODUCER"]

    assert (process.trace_id, process.parent) == (TRACE_ID, SPAN_ID)
    assert result.parent == process.id
    assert publish.headers == [
        {"traceparent": f"00-{TRACE_ID}-{result.id}-01", "tracestate": "vendor=1"}
    ]
    assert (
        process.attributes.items()
        >= {
            "messaging.system": "rabbitmq",
            "messaging.operation.type": "process",
            "messaging.destination.name": QUEUE,
            "messaging.message.id": "a",
            "postrider.delivery.end": "done",
        }.items()
    )


@pytest.mark.parametrize("malformed", ["", "00-1-2-01", f"{PARENT},{PARENT}", PARENT + "-" * 600])
async def test_a_malformed_trace_is_replaced(collector: Collector, malformed: str) -> None:
    """The handling begins a trace, and nothing of the malformed one is published."""
    publish = Traces()
    await handled(facts, publish, traceparent=malformed, tracestate="vendor=1")
    process = next(each for each in ended(collector) if each.kind == "CONSUMER")

    assert process.parent == ""
    [headers] = publish.headers
    assert headers["traceparent"].startswith(f"00-{process.trace_id}-")
    assert "tracestate" not in headers


async def test_a_long_tracestate_is_left_out(collector: Collector) -> None:
    """The trace goes on without it: headers of a message must fit into a frame."""
    publish = Traces()
    await handled(facts, publish, traceparent=PARENT, tracestate=f"vendor={'x' * 600}")

    assert ended(collector)
    assert [[*each] for each in publish.headers] == [["traceparent"]]


@pytest.mark.parametrize(
    ("error", "end"),
    [(Reject("lovelace@example.com"), "rejected"), (ValueError("lovelace"), "again")],
)
async def test_failures_have_no_text(collector: Collector, error: Exception, end: str) -> None:
    """A failed handling has the end that metrics have; the text of its error is for the log."""
    await handled(raising(error), Traces())
    process = next(each for each in ended(collector) if each.kind == "CONSUMER")

    assert process.failed
    assert process.attributes["error.type"] == end
    assert not collector.holds(b"lovelace")


async def test_an_exception_ends_a_span(collector: Collector) -> None:
    """The span has the name of the exception, and not its text."""
    item = delivery.publishing(mail("a"))
    with pytest.raises(Unavailable), tracing.publishing(item):
        raise Unavailable("no queue for lovelace@example.com")

    span = one(collector)
    assert (span.failed, span.attributes["error.type"]) == (True, "Unavailable")
    assert not collector.holds(b"lovelace")


def test_a_kept_trace_is_continued(collector: Collector) -> None:
    """Outside of any span a message continues the trace that was kept with it, if there is one."""
    spans = PublishSpans()
    kept = spans.begin(delivery.publishing(mail("a"), trace={"traceparent": PARENT}))
    new = spans.begin(delivery.publishing(mail("b")))
    spans.end({"a": None, "b": Unavailable("away")})
    found = {each.attributes["messaging.message.id"]: each for each in ended(collector)}

    assert kept.headers == {"traceparent": f"00-{TRACE_ID}-{found['a'].id}-01"}
    assert str(new.headers["traceparent"]).startswith(f"00-{found['b'].trace_id}-{found['b'].id}-")
    assert [found[each].failed for each in "ab"] == [False, True]
    assert found["b"].trace_id != TRACE_ID


async def test_a_batch_links_to_its_traces(collector: Collector) -> None:
    """A batch has one span with a link to each trace, and its handler sees whose is whose."""
    seen: list[Sequence[tracing.Trace]] = []

    async def handle(commands: Sequence[SendEmail]) -> None:
        seen.append(tracing.origins(len(commands)))

    async def alone(_: SendEmail) -> Sequence[Contract]:
        return ()

    subscription = Subscription(QUEUE, {SendEmail: alone}, 8, group_size=4)
    consumer = BatchConsumer(subscription, Traces(), handle)
    tags = [RecordingTag() for _ in range(3)]
    broken = replace(arrived("b"), body=b"{")
    for message, tag in zip((arrived("a"), broken, arrived("c")), tags, strict=True):
        consumer.take(
            replace(message, trace={"traceparent": PARENT} if tag is tags[2] else {}), tag
        )
    for tag in tags:
        await is_settled(tag)
    await consumer.drain(1)
    batch = next(
        each for each in ended(collector) if "messaging.batch.message_count" in each.attributes
    )

    assert seen == [[{}, {"traceparent": PARENT}]]
    assert batch.links == [TRACE_ID]
    assert batch.parent == ""
    assert batch.attributes["messaging.batch.message_count"] == 3


@pytest.mark.parametrize(
    ("sampler", "parent", "is_recorded"),
    [
        ("parentbased_always_on", NOT_SAMPLED, False),
        ("parentbased_always_on", "", True),
        ("parentbased_always_off", PARENT, True),
        ("parentbased_traceidratio", PARENT, True),
        ("parentbased_traceidratio", "", False),
        ("always_on", NOT_SAMPLED, True),
        ("always_off", PARENT, False),
        ("traceidratio", PARENT, False),
    ],
)
def test_the_sampler_decides(sampler: str, parent: str, *, is_recorded: bool) -> None:
    """A span that is not recorded is passed on too, so that no later one is recorded alone."""
    with recording(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG="0") as collector:
        with tracing.span("x", SpanKind.SERVER, {}, {"traceparent": parent}) as span:
            header = tracing.traceparent()
        spans = ended(collector)

    assert header == span.headers["traceparent"]
    assert header[-2:] in (RECORDED if is_recorded else NOT_RECORDED)
    assert len(spans) == is_recorded


def test_an_http_request_with_two_parents_has_none(collector: Collector) -> None:
    """Which one counts is not to be seen (W3C Trace Context 3.2.1)."""
    headers = {"traceparent": (PARENT, PARENT)}
    with tracing.serving("BREW", None, dict, lambda name: headers.get(name, ())) as span:
        tracing.answered(span, 503)

    found = one(collector)
    assert (found.name, found.parent, found.failed) == ("HTTP", "", True)
    assert found.attributes["http.request.method"] == "_OTHER"


async def test_a_collector_that_is_away_costs_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens at the endpoint; the messages are handled and acknowledged all the same."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        tracing.start(settings(f"http://127.0.0.1:{closed.getsockname()[1]}"))
        tag = await handled(facts, Traces(), traceparent=PARENT)
        tracing.stop()

    assert tag.settled == ["ack"]


def test_the_end_does_not_wait_for_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that never answers does not keep a service from ending."""
    monkeypatch.setattr(otel, "STOP_SECONDS", 0.01)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    before = {*threading.enumerate()}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracing.start(settings(f"http://127.0.0.1:{silent.getsockname()[1]}"))
        with tracing.span("x", SpanKind.CLIENT, {}):
            pass
        tracing.stop()
        left = {*threading.enumerate()} - before

        assert otel.LAST_SPANS in {each.name for each in left}
        assert all(each.daemon for each in left)
    for each in left:
        each.join()
