"""Exchanges, queues and rights: the rules of the data, and that the broker reads them so."""

import asyncio
import re
from urllib.parse import unquote, urlsplit

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from ops.broker import RabbitServer as Node
from shared import topology
from shared.contracts import Category, Command, Contract, Event, Question
from shared.errors import Unavailable
from shared.rabbitmq import declare
from shared.retry import Delay
from shared.topology import EXCHANGES, Owner, Queue, dead_queue, queues
from tests.shared.golden.examples import EXAMPLES
from tests.waiting import PATIENCE_SECONDS

ALL = queues(tuple(Owner))
BY_NAME = {queue.name: queue for queue in ALL}
QUORUM = [queue for queue in ALL if queue.arguments["x-queue-type"] == "quorum"]
CLASSIC = [queue for queue in ALL if queue.arguments["x-queue-type"] == "classic"]
WORK = [queue for queue in QUORUM if dead_queue(queue.name) in BY_NAME]
DEAD = [BY_NAME[dead_queue(queue.name)] for queue in WORK]


def name_of(thing: object) -> str:
    """Return the name of a parameter."""
    return str(getattr(thing, "name", thing))


def matches(pattern: str, key: str) -> bool:
    """Return whether a topic binding matches a key (`*` one word, `#` any number of words)."""
    expression = re.escape(pattern).replace(r"\#", "#").replace(r"\*", "[^.]+")
    expression = expression.replace(r"\.#", r"(\..+)?").replace("#", ".*")
    return re.fullmatch(expression, key) is not None


def takers(exchange: str, key: str) -> set[str]:
    """Return the queues that a message is routed to."""
    return {
        queue.name
        for queue in ALL
        for binding in queue.bindings
        if binding.exchange == exchange and matches(binding.key, key)
    }


def test_names_are_not_used_twice() -> None:
    """An exchange or queue is described once."""
    assert len(BY_NAME) == len(ALL)
    assert len({exchange.name for exchange in EXCHANGES}) == len(EXCHANGES)


def test_every_queue_belongs_to_its_owner_by_name() -> None:
    """The name of a queue begins with its owner, by which rights are granted."""
    for queue in ALL:
        if queue.owner is not None:
            assert queue.name.startswith(f"{queue.owner}.")


@pytest.mark.parametrize("queue", ALL, ids=name_of)
def test_every_queue_refuses_when_it_is_full(queue: Queue) -> None:
    """A full queue refuses publishes; otherwise it would drop its oldest, confirmed messages."""
    assert queue.arguments["x-overflow"] == "reject-publish"
    assert int(queue.arguments["x-max-length"]) > 0


@pytest.mark.parametrize("queue", QUORUM, ids=name_of)
def test_every_quorum_queue_has_a_delivery_limit(queue: Queue) -> None:
    """Each quorum queue sets a delivery limit: unset it is endless on 3.10 and 20 on 4.x."""
    assert int(queue.arguments["x-delivery-limit"]) >= topology.DELIVERY_LIMIT


@pytest.mark.parametrize("queue", ALL, ids=name_of)
def test_no_argument_is_negative(queue: Queue) -> None:
    """No argument is negative: -1 means unlimited to one version and zero to another."""
    assert all(value > 0 for value in queue.arguments.values() if isinstance(value, int))


@pytest.mark.parametrize("queue", ALL, ids=name_of)
def test_dead_lettering_is_at_least_once(queue: Queue) -> None:
    """The strategy needs a target and `reject-publish`, else the broker silently loses some."""
    strategy = queue.arguments.get("x-dead-letter-strategy")

    assert ("x-dead-letter-exchange" in queue.arguments) == (strategy is not None)
    assert strategy in {None, "at-least-once"}


@pytest.mark.parametrize("queue", WORK, ids=name_of)
def test_what_dies_goes_to_the_queue_s_own_dead_letters(queue: Queue) -> None:
    """The dead letters of a queue are in one queue of their own."""
    assert queue.arguments["x-dead-letter-exchange"] == topology.DEAD
    key = str(queue.arguments["x-dead-letter-routing-key"])
    assert takers(topology.DEAD, key) == {dead_queue(queue.name)}
    assert BY_NAME[dead_queue(queue.name)].owner == queue.owner


def test_every_owned_queue_of_commands_or_events_has_dead_letters() -> None:
    """Each owned queue has dead letters, except the queues of questions."""
    owned = {queue.name for queue in QUORUM if queue.owner} - {queue.name for queue in DEAD}

    assert owned == {queue.name for queue in WORK}
    questions = {topology.OTP_QUESTIONS, topology.CLASSIFIER_QUESTIONS}
    questions |= {topology.SENDER_QUESTIONS, topology.LEDGER_QUESTIONS}
    questions |= {topology.SCHEDULER_QUESTIONS, topology.GATEWAY_QUESTIONS}
    questions |= {topology.WEBHOOK_QUESTIONS}
    assert {queue.name for queue in CLASSIC} == questions


def test_a_question_is_gone_in_seconds() -> None:
    """A question, which may hold a code, expires and is never a dead letter."""
    assert {queue.arguments["x-message-ttl"] for queue in CLASSIC} == {10_000}
    assert not any("x-dead-letter-exchange" in queue.arguments for queue in CLASSIC)


@pytest.mark.parametrize("queue", DEAD, ids=name_of)
def test_dead_letters_stay(queue: Queue) -> None:
    """Dead letters neither expire nor are limited in returns."""
    assert queue.arguments["x-delivery-limit"] == topology.DEAD_DELIVERY_LIMIT
    assert not {"x-message-ttl", "x-expires", "x-dead-letter-exchange"} & queue.arguments.keys()


def test_no_queue_vanishes() -> None:
    """The messages of a queue that expires are lost without a dead letter."""
    assert not any("x-expires" in queue.arguments for queue in ALL)


@pytest.mark.parametrize(("name", "delay"), topology.DELAY_EXCHANGES.items())
def test_a_delay_queue_sends_back_to_the_queue_of_the_key(name: str, delay: Delay) -> None:
    """A delay queue has no dead-letter key, so the routing key still names the next queue."""
    queue = BY_NAME[name]

    assert queue.arguments["x-dead-letter-exchange"] == ""
    assert "x-dead-letter-routing-key" not in queue.arguments
    assert queue.arguments["x-message-ttl"] == delay.seconds * 1000
    for work in WORK:
        assert takers(name, work.name) == {name}


@pytest.mark.parametrize("scale", [1e-9, 0.01, 1.0])
def test_a_scaled_delay_still_waits(scale: float) -> None:
    """A time to live of zero would send a message back before it is confirmed."""
    steps = [queue for queue in queues(scale=scale) if queue.name.startswith("delay.")]

    assert all(int(queue.arguments["x-message-ttl"]) >= 1 for queue in steps)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("email.send.otp", {"sender.otp", "ledger.mail"}),
        ("email.send.transactional", {"sender.transactional", "ledger.mail"}),
        ("email.send.bulk", {"sender.bulk", "ledger.mail"}),
        ("email.send.bulk.0", {"sender.bulk.0", "ledger.mail"}),
        ("email.send.transactional.15", {"sender.transactional.15", "ledger.mail"}),
        ("email.send.transactional.16", {"ledger.mail"}),
        ("email.send.otp.0", {"ledger.mail"}),
        ("code.issue", {"otp.commands"}),
        ("code.cancel", {"otp.commands"}),
        ("code.verify", {"otp.questions"}),
        ("domain.describe", {"classifier.questions"}),
        ("email.cancel", {"sender.questions"}),
        ("email.describe", {"ledger.questions"}),
        ("email.find", {"ledger.questions"}),
        ("suppression.add", {"ledger.questions"}),
        (
            "address.forget",
            {"sender.addresses", "ledger.commands", "otp.commands", "scheduler.addresses"}
            | {"webhooks.commands"},
        ),
        ("suppression.announce", {"ledger.commands"}),
        ("email.schedule.bulk", {"scheduler.mail", "ledger.mail"}),
        ("subscription.add", {"scheduler.questions"}),
        ("content.save", {"scheduler.questions"}),
        ("run.list", {"scheduler.questions"}),
        ("webhook.create", {"webhooks.questions"}),
        ("email.send", {"ledger.mail"}),
        ("unknown.verb", set()),
    ],
)
def test_commands_reach_their_service(key: str, expected: set[str]) -> None:
    """A command goes to one service; the ledger gets all mail."""
    assert takers(topology.COMMANDS, key) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("email.delivered", {"classifier.evidence", "ledger.mail", "webhooks.events"}),
        (
            "email.bounced",
            {"classifier.evidence", "ledger.mail", "scheduler.addresses", "webhooks.events"},
        ),
        ("email.rescheduled", {"ledger.mail", "webhooks.events"}),
        ("email.deferred", {"ledger.mail", "webhooks.events"}),
        ("email.uncertain", {"ledger.mail", "webhooks.events"}),
        ("email.suppressed", {"ledger.mail", "webhooks.events"}),
        ("suppression.added", {"sender.addresses", "scheduler.addresses", "webhooks.events"}),
        ("feedback.reported", {"classifier.evidence"}),
        (
            "report.bounced",
            {"classifier.evidence", "ledger.mail", "scheduler.addresses", "webhooks.events"},
        ),
        ("report.complained", {"ledger.mail", "scheduler.addresses", "webhooks.events"}),
        ("report.delayed", {"ledger.mail", "webhooks.events"}),
        ("code.verified", {"webhooks.events"}),
        ("domain.classified", {"webhooks.events"}),
        ("content.paused", {"webhooks.events"}),
        ("webhook.disabled", {"webhooks.events"}),
        ("client.removed", {"webhooks.commands", "scheduler.addresses"}),
    ],
)
def test_events_reach_their_listeners(key: str, expected: set[str]) -> None:
    """Only evidence goes to the classifier."""
    assert takers(topology.EVENTS, key) == expected


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_what_must_arrive_has_a_queue(message: Contract) -> None:
    """Every message that is refused without a queue has one as soon as its service runs."""
    if not isinstance(message, Command | Question | Event):
        return
    names = takers(topology.exchange_of(message), topology.routing_key(message))

    assert not message.must_arrive or names


def test_only_the_queues_of_running_services_are_declared() -> None:
    """The queues of a service that is not deployed are not declared: they would fill up."""
    assert {queue.owner for queue in queues()} <= {*topology.Owner, None}
    assert {queue.owner for queue in queues([Owner.OTP])} == {Owner.OTP, None}


def test_an_unroutable_command_is_not_caught() -> None:
    """The exchange of commands has no alternate, which would count as a route to `mandatory`."""
    alternates = {exchange.name: exchange.alternate for exchange in EXCHANGES}

    assert alternates[topology.COMMANDS] is None
    assert alternates[topology.EVENTS] is None


def test_what_we_route_ourselves_is_never_lost() -> None:
    """A copy for a missing queue goes to the queue of the unroutable."""
    ours = {topology.DEAD, *topology.DELAY_EXCHANGES}

    assert {each.name for each in EXCHANGES if each.alternate == topology.UNROUTED} == ours
    assert takers(topology.UNROUTED, "") == {topology.UNROUTED}


def test_every_binding_names_an_exchange_that_is_declared() -> None:
    """Each binding names an exchange that exists."""
    names = {exchange.name for exchange in EXCHANGES}

    assert {binding.exchange for queue in ALL for binding in queue.bindings} <= names
    assert {str(queue.arguments.get("x-dead-letter-exchange", "")) for queue in ALL} <= {*names, ""}


@pytest.mark.parametrize("category", Category)
def test_each_category_has_a_queue(category: Category) -> None:
    """A code never waits behind a newsletter."""
    assert takers(topology.COMMANDS, f"email.send.{category}") >= {topology.sending_queue(category)}


@pytest.mark.rabbit
class TestOnABroker:
    """The topology in a real broker."""

    async def test_declared_is_what_the_data_say(self, vhost: str, rabbit: Node) -> None:
        """The broker has read every argument as it was declared."""
        await declare(vhost, EXCHANGES, ALL)

        assert read_queues(rabbit, vhost) == {
            queue.name: (True, dict(queue.arguments)) for queue in ALL
        }
        assert read_exchanges(rabbit, vhost) == {
            each.name: (
                each.kind,
                True,
                {"alternate-exchange": each.alternate} if each.alternate else {},
            )
            for each in EXCHANGES
        }
        assert read_bindings(rabbit, vhost) == {
            (binding.exchange, binding.key, queue.name)
            for queue in ALL
            for binding in queue.bindings
        }

    async def test_poison_ends_in_the_dead_letters(self, vhost: str) -> None:
        """A message that kills its consumer again and again becomes a dead letter."""
        await declare(vhost, EXCHANGES, queues())
        poisoned = topology.sending_queue(Category.BULK)
        returns: list[AbstractIncomingMessage] = []
        dead: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

        async def give_back(message: AbstractIncomingMessage) -> None:
            returns.append(message)
            await message.reject(requeue=True)

        async with await aio_pika.connect(vhost) as connection, connection.channel() as channel:
            await channel.default_exchange.publish(aio_pika.Message(b"poison"), poisoned)
            work = await channel.declare_queue(poisoned, passive=True)
            letters = await channel.declare_queue(dead_queue(poisoned), passive=True)
            await letters.consume(dead.put)
            await work.consume(give_back)
            async with asyncio.timeout(PATIENCE_SECONDS):
                letter = await dead.get()

        assert letter.body == b"poison"
        assert 0 <= len(returns) - topology.DELIVERY_LIMIT <= 1  # versions count differently

    async def test_declaring_twice_is_harmless(self, vhost: str, rabbit: Node) -> None:
        """Declaring twice changes nothing."""
        await declare(vhost, EXCHANGES, queues())
        before = read_queues(rabbit, vhost)

        await declare(vhost, EXCHANGES, queues())

        assert read_queues(rabbit, vhost) == before

    async def test_other_arguments_are_refused_clearly(self, vhost: str) -> None:
        """A queue with other arguments is an error that names the queue, not the password."""
        await declare(vhost, EXCHANGES, queues())

        with pytest.raises(Unavailable, match=r"PRECONDITION_FAILED.*'delay\.5s") as caught:
            await declare(vhost, EXCHANGES, queues(scale=0.5))

        assert str(urlsplit(vhost).password) not in str(caught.value)
        assert "127.0.0.1" in str(caught.value)

    async def test_a_broker_that_is_away_is_unavailable(self) -> None:
        """A broker that is away is an error with its address, without the password."""
        with pytest.raises(Unavailable, match=r"user:\*\*\*@127\.0\.0\.1:1/"):
            await declare("amqp://user:hunter2@127.0.0.1:1/", EXCHANGES, ALL)


def vhost_of(url: str) -> str:
    """Return the vhost of an AMQP URL, quoted for a path of the management API."""
    return urlsplit(url).path.removeprefix("/")


def listed(rabbit: Node, what: str, vhost: str) -> list[dict[str, object]]:
    """Ask the management API for all of one kind in a vhost."""
    found = rabbit.address.management.request("GET", f"/{what}/{vhost_of(vhost)}")
    assert isinstance(found, list)
    assert all(item["vhost"] == unquote(vhost_of(vhost)) for item in found)
    return found


def read_queues(rabbit: Node, vhost: str) -> dict[object, object]:
    """Return durability and arguments of every queue by its name."""
    return {
        item["name"]: (item["durable"], item["arguments"])
        for item in listed(rabbit, "queues", vhost)
    }


def read_exchanges(rabbit: Node, vhost: str) -> dict[object, object]:
    """Return kind, durability and arguments of each of our exchanges by its name."""
    return {
        item["name"]: (item["type"], item["durable"], item["arguments"])
        for item in listed(rabbit, "exchanges", vhost)
        if item["name"] and not str(item["name"]).startswith("amq.")
    }


def read_bindings(rabbit: Node, vhost: str) -> set[tuple[object, object, object]]:
    """Return source, key and queue of each of our bindings."""
    return {
        (item["source"], item["routing_key"], item["destination"])
        for item in listed(rabbit, "bindings", vhost)
        if item["source"]
    }


@pytest.mark.parametrize("category", Category)
def test_each_mail_has_a_queue_to_send_from(category: Category) -> None:
    """The queue that must exist for a mail's routing key is the one that is bound to it."""
    keys = [f"email.send.{category}", *(f"email.send.{category}.{n}" for n in range(2))]

    for key in keys if topology.shard_queues(category) else keys[:1]:
        queue = topology.queue_to_send(key)
        assert takers(topology.COMMANDS, key) == {queue, topology.LEDGER_MAIL}
    assert topology.queue_to_send("code.issue") is None
