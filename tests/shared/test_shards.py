"""Tests of the shard of a client, and of the routing keys that follow from it."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from ops.broker import RabbitServer as Node
from shared import rights, topology
from shared.contracts import CONTRACTS, Category, SendEmail
from shared.rabbitmq import declare
from shared.rights import User
from shared.topology import (
    EXCHANGES,
    SHARDED,
    SHARDS,
    Binding,
    Queue,
    queues,
    routing_key,
    shard_of,
    type_of,
)
from tests.sender.commands import a_command
from tests.shared.messages import fact
from tests.shared.test_topology import BY_NAME, read_bindings, read_queues, takers

SHARD_QUEUES = {queue for category in Category for queue in topology.shard_queues(category)}
USERS = {user.name: user for user in rights.USERS}


@pytest.mark.parametrize(("client", "shard"), [("shop", 13), ("news", 9), ("a" * 100, 8)])
def test_the_shard_of_a_client_never_changes(client: str, shard: int) -> None:
    """A client's mails stay in one queue over releases, and so in their order."""
    assert shard_of(client) == shard


def test_clients_spread_over_all_shards() -> None:
    """Names that differ in little spread as evenly as chance does."""
    found = Counter(shard_of(f"client-{number}") for number in range(16_000))

    assert found.keys() == set(range(SHARDS))
    assert 850 < min(found.values()) <= max(found.values()) < 1150


@pytest.mark.parametrize("category", SHARDED)
def test_a_mail_of_a_client_goes_to_its_shard(category: Category) -> None:
    """The routing key has the shard; the type stays that of the contract."""
    command = a_command(client="shop", category=category)

    assert routing_key(command) == f"email.send.{category}.{shard_of('shop')}"
    assert type_of(routing_key(command)) == command.routing_key == f"email.send.{category}"


def test_other_messages_have_no_shard() -> None:
    """Codes, mails of no client, and other messages go by their type."""
    for message in (a_command(client="shop", category=Category.OTP), a_command(), fact("f")):
        assert routing_key(message) == message.routing_key


@pytest.mark.parametrize("key", [key for each in CONTRACTS for key in each.keys])
def test_a_key_without_a_shard_is_the_type(key: str) -> None:
    """A message without a type is read by its routing key, as ever."""
    assert type_of(key) == key


@pytest.mark.parametrize("key", ["", "3", "email.send.otp.3", "email.send.bulk.x", "sender.bulk.3"])
def test_no_other_key_has_a_shard(key: str) -> None:
    """Only the keys of mails have shards; a queue's name is none of them."""
    assert type_of(key) == key


@pytest.mark.parametrize("category", SHARDED)
def test_each_shard_has_a_queue_and_all_share_their_dead_letters(category: Category) -> None:
    """An operator sees the dead letters of a class in one queue, with their origin in a header."""
    for shard, queue in enumerate(topology.shard_queues(category)):
        sent = takers(topology.COMMANDS, f"email.send.{category}.{shard}")
        assert takers(topology.SHARDED_MAILS, f"email.send.{category}.{shard}") == sent
        assert {name for name in sent if name.startswith("sender.")} == {queue}
        alike = BY_NAME[topology.sending_queue(category)].arguments
        assert BY_NAME[queue].arguments == {**alike, "x-dead-letter-routing-key": queue}
        assert takers(topology.DEAD, queue) == {f"sender.{category}.dead"}
    assert len(topology.shard_queues(category)) == SHARDS


def test_codes_have_one_queue() -> None:
    """A code is wanted within seconds, so its class has no backlog to share."""
    assert not topology.shard_queues(Category.OTP)


@pytest.mark.parametrize("category", SHARDED)
def test_a_program_may_publish_to_its_own_shard(category: Category) -> None:
    """A program cannot choose the shard of another client; services that know all clients can."""
    keys = {f"email.send.{category}", *(f"email.send.{category}.{each}" for each in range(100))}
    own = f"email.send.{category}.{shard_of('shop')}"
    program = rights.program_user("shop")

    def allowed(user: User) -> set[str]:
        return {key for key in keys if re.search(user.topics[topology.COMMANDS], key)}

    assert allowed(program) == {f"email.send.{category}", own}
    assert {routing_key(mail) for mail in mails(category)} <= allowed(USERS["gateway"])
    assert allowed(USERS["gateway"]) == allowed(USERS["scheduler"])
    assert not allowed(USERS["otp"])


def mails(category: Category) -> list[SendEmail]:
    """Return mails of many clients."""
    return [a_command(client=f"client-{n}", category=category) for n in range(200)]


@pytest.mark.rabbit
async def test_shards_are_added_to_a_broker_of_a_version_without(vhost: str, rabbit: Node) -> None:
    """No queue is declared with other arguments than before; mails that wait there stay."""
    old = [each for each in queues() if each.name not in SHARD_QUEUES]
    await declare(vhost, EXCHANGES, [replace(each, bindings=bare(each)) for each in old])
    before = read_queues(rabbit, vhost)

    await declare(vhost, EXCHANGES, queues())

    after = read_queues(rabbit, vhost)
    assert after.items() >= before.items()
    assert after.keys() - before.keys() == SHARD_QUEUES
    assert {(topology.DEAD, "sender.bulk.*", "sender.bulk.dead")} <= read_bindings(rabbit, vhost)


def bare(queue: Queue) -> tuple[Binding, ...]:
    """Return the bindings of a queue but those of shards."""
    return tuple(each for each in queue.bindings if not each.key.endswith(".*"))
