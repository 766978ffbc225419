"""Pure: the shard of a client, which keeps its backlog out of the way of other clients.

A queue is served in its order: behind 100,000 mails of one client waits the first one of another.
So a class has several queues, its shards, and a client's mails are in one of them. The sender
serves the queues in turn. The shard is in the routing key alone: the AMQP type stays that of the
contract.
"""

from functools import lru_cache
from hashlib import sha256

from shared.contracts import Category, Contract, SendEmail

# One of so many clients shares a shard with a client that has a backlog. A quorum queue costs the
# broker 15 ms once and no processor time while it is empty (seen on 3.10.8).
SHARDS = 16
SHARD_PATTERN = "[0-9]{1,2}"  # in a routing key
SHARDED = (Category.TRANSACTIONAL, Category.BULK)  # a code is wanted within seconds or not at all


@lru_cache(maxsize=4096)  # a hash costs a microsecond, and a client publishes many mails
def shard_of(client: str) -> int:
    """Return the shard of a client, from 0 to below SHARDS; the same in every process for ever."""
    return sha256(client.encode(errors="replace")).digest()[0] % SHARDS


def routing_key(message: Contract) -> str:
    """Return the routing key of a message: its type, for a client's mail with the shard."""
    key = message.routing_key
    if isinstance(message, SendEmail) and message.client and message.category in SHARDED:
        return f"{key}.{shard_of(message.client)}"
    return key


def type_of(key: str) -> str:
    """Return the type that a routing key stands for, which a publisher may leave out."""
    type_, _, last = key.rpartition(".")
    return type_ if last.isdecimal() and type_ in _TYPES else key


_TYPES = frozenset(f"email.send.{category}" for category in SHARDED)
