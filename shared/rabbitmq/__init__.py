"""RabbitMQ by aio-pika: connections that come back, confirmed publishing, queues that are read.

Only this package knows the library. Everything that fails here raises Unavailable. The frames of
messages, confirms and acknowledgements are written and read here, on the library's connection:
that takes a third of the processor time.
"""

from shared.rabbitmq import frames
from shared.rabbitmq.connection import Connection, declare
from shared.rabbitmq.publisher import Publisher
from shared.rabbitmq.queue_reader import (
    ChannelTag,
    Fetched,
    QueueReader,
    QueueState,
    count_waiting,
    fetching,
    read_states,
)

__all__ = [
    "ChannelTag",
    "Connection",
    "Fetched",
    "Publisher",
    "QueueReader",
    "QueueState",
    "count_waiting",
    "declare",
    "fetching",
    "read_states",
]

frames.install()
