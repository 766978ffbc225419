"""The answers about relays, from real pools."""

from dataclasses import replace
from datetime import UTC, datetime

from ops.simulator.simulator import Simulator
from services.sender import metrics
from services.sender.relay_handlers import RelayHandlers
from services.sender.schedule import Backoff
from shared.contracts import Category, CircuitState, DescribeRelays, RelaysDescribed, RelayState
from tests.sender.mails import a_pool, a_relay, sent
from tests.sender.scripted import CUT, scripted

A_WHILE = Backoff(60, 60)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
STATE = RelayState(
    relay="relay.example:25",
    category=Category.OTP,
    idle=0,
    busy=1,
    opening=0,
    mails=1,
    limit=2,
    max_connections=2,
    circuit=CircuitState.CLOSED,
    failures=0,
)


async def test_the_answer_has_the_relays_and_the_times_of_mails() -> None:
    """The steps are sums over all relays: within so many seconds, and all at the end."""
    before = {name: dict(steps) for name, steps in metrics.latencies()}.get("bulk", {})
    for relay, seconds in (("one", 0.3), ("two", 0.3), ("two", 1_000_000.0)):
        metrics.FINAL.labels("bulk", relay).observe(seconds)
    handlers = RelayHandlers(lambda: [STATE], "sender-1", NOW)
    (answer,) = await handlers.on_describe_relays(DescribeRelays(id="q-1"))

    assert isinstance(answer, RelaysDescribed)
    assert (answer.id, answer.sender, answer.started_at) == ("q-1", "sender-1", NOW)
    assert answer.relays == (STATE,)
    (bulk,) = (each for each in answer.latencies if each.category is Category.BULK)
    steps = {each.seconds: each.count for each in bulk.steps}
    assert steps[0.5] - before.get(0.5, 0) == 2
    assert steps[0.1] - before.get(0.1, 0) == 0
    assert steps[None] - before.get(float("inf"), 0) == 3
    assert bulk.steps[-1].seconds is None


async def test_the_state_of_each_relay_is_known(simulator: Simulator) -> None:
    """One that rests says for how long, one that works how many connections it has."""
    async with scripted({"CONNECT": CUT}) as server:
        relays = [
            replace(a_relay(port), backoff=A_WHILE) for port in (server.port, simulator.smtp_port)
        ]
        async with a_pool(*relays) as pool:
            for _ in range(3):
                await sent(pool)
            away, works = pool.states(Category.BULK)

    assert (away.relay, away.circuit) == (f"127.0.0.1:{server.port}", CircuitState.OPEN)
    assert away.failures == 1
    assert 40 < away.pause_seconds < 80
    assert (works.circuit, works.failures, works.pause_seconds) == (CircuitState.CLOSED, 0, 0)
    assert (works.idle, works.busy, works.opening, works.mails) == (1, 0, 0, 0)
    assert 1 <= works.limit <= works.max_connections
    assert works.rate is None
