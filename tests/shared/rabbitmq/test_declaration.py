"""Exchanges and queues are made as they are described."""

import pytest

from shared.delivery import Publishing
from shared.errors import Unavailable
from shared.rabbitmq import Connection, Publisher, declare
from shared.topology import Binding, Exchange, Queue
from tests.shared.rabbitmq.messages import waiting

SECONDS = 20.0  # that a test waits for anything


async def test_exchanges_queues_and_bindings_are_made(vhost: str, steady: Connection) -> None:
    """Declaring is repeatable; a queue with other arguments is an error."""
    exchanges = [Exchange("rest", "fanout"), Exchange("work", "topic", "rest")]
    queues = [
        Queue("a", None, (Binding("work", "a.*"),), {"x-max-length": 10}),
        Queue("others", None, (Binding("rest", ""),), {}),
    ]
    for _ in range(2):
        await declare(vhost, exchanges, queues)
    publisher = Publisher(steady, "tests")
    for number, key in enumerate(("a.b", "c")):
        await publisher.publish(Publishing("work", key, "t", b"", f"m{number}", "c"))

    assert [await waiting(steady, name) for name in ("a", "others")] == [1, 1]
    with pytest.raises(Unavailable, match="PRECONDITION_FAILED"):
        await declare(vhost, [], [Queue("a", None, (), {"x-max-length": 11})])
