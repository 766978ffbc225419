"""The rights of the broker's users: each service has the least that it needs."""

import re

import pytest

from shared import dead_letter, rights, topology
from shared.contracts import CONTRACTS, Category, Command, Event, Question
from shared.retry import DELAYS
from shared.rights import User
from shared.topology import EXCHANGES, sending_queue, shard_queues
from tests.shared.test_topology import ALL, name_of

USERS = {user.name: user for user in rights.USERS}
SERVICES = [user for user in rights.USERS if user.name != "console"]
COMMAND_KEYS = [
    key for each in CONTRACTS if issubclass(each, Command | Question) for key in each.keys
]
EVENT_KEYS = [key for each in CONTRACTS if issubclass(each, Event) for key in each.keys]


@pytest.mark.parametrize("user", rights.USERS, ids=name_of)
def test_rights_are_anchored(user: User) -> None:
    """`sms` without anchors would also match `mysms.dead`."""
    patterns = (user.write, user.read, *user.topics.values())

    assert all(pattern.startswith("^") for pattern in patterns)
    assert user.write.endswith("$")


def test_a_publisher_of_mail_may_look_for_its_queues() -> None:
    """RabbitMQ 4.3 shows whether a queue exists only to a user with some right on it."""
    sending = {name for c in Category for name in (sending_queue(c), *shard_queues(c))}
    own = dict.fromkeys(("otp", "scheduler"), sending)
    own["gateway"] = own["inbound"] = {*sending, topology.SCHEDULER_MAIL}
    own["console"] = {each.name for each in ALL if each.owner}  # it counts what waits

    for name, user in USERS.items():
        found = {each.name for each in ALL if each.owner and re.search(user.write, each.name)}
        assert found == own.get(name, set())


def test_the_console_reads_dead_letters_and_sends_them_back_alone() -> None:
    """The console reads no queue of work, and its copies reach the queues of work alone."""
    user = USERS["console"]
    readable = {queue.name for queue in ALL if re.search(user.read, queue.name)}
    back = {topology.delay_exchange(DELAYS[0], each) for each in dead_letter.ORIGINS}

    assert readable == set(dead_letter.dead_queues())
    for exchange in (topology.DEAD, *topology.DELAY_EXCHANGES):
        reached = {queue.name for queue in ALL if re.search(user.topics[exchange], queue.name)}
        assert reached == (set(dead_letter.ORIGINS) if exchange in back else set())
    assert not re.search(user.write, "amq.default")


@pytest.mark.parametrize("user", SERVICES, ids=name_of)
def test_a_service_reads_its_own_queues_only(user: User) -> None:
    """A service reads its own queues alone, and can delay or reject only their messages."""
    readable = {queue.name for queue in ALL if re.search(user.read, queue.name)}

    assert readable == {queue.name for queue in ALL if queue.owner == user.name}
    for exchange in (topology.DEAD, *topology.DELAY_EXCHANGES):
        writable = {queue.name for queue in ALL if re.search(user.topics[exchange], queue.name)}
        assert writable == readable


@pytest.mark.parametrize(
    ("name", "commands", "events"),
    [
        (
            "gateway",
            {"email.send.otp", "email.send.transactional", "email.send.bulk"}
            | {"code.issue", "code.cancel", "code.verify", "domain.describe"}
            | {"domain.list", "domain.count", "email.cancel", "email.describe", "email.list"}
            | {"email.count", "suppression.describe", "suppression.list", "suppression.add"}
            | {"suppression.remove", "email.schedule.transactional", "email.schedule.bulk"}
            | {"email.reschedule", "email.unschedule", "run.list", "run.repeat"}
            | {"content.save", "content.describe", "content.delete", "content.resume"}
            | {"content.list", "content.render", "subscription.add", "subscription.describe"}
            | {"subscription.confirm", "subscription.end", "subscription.list"}
            | {"webhook.create", "webhook.change", "webhook.describe", "webhook.delete"}
            | {"webhook.rotate", "webhook.list", "webhook.test", "webhook.replay"}
            | {"webhook.deliveries", "webhook.tries", "email.find"},
            {"feedback.reported", "report.bounced", "report.delayed", "report.delivered"}
            | {"report.complained", "client.removed"},
        ),
        (
            "sender",
            {"suppression.announce"},
            {key for key in EVENT_KEYS if key.startswith("email.")},
        ),
        ("otp", {"email.send.otp"}, {"code.issued", "code.verified", "code.refused"}),
        ("classifier", set(), {"domain.classified"}),
        (
            "scheduler",
            {"email.send.transactional", "email.send.bulk"},
            {"email.cancelled", "email.rescheduled", "content.paused"},
        ),
        ("ledger", set(), {"suppression.added", "suppression.removed"}),
        ("webhooks", set(), {"webhook.disabled"}),
        (
            "console",
            {"email.describe", "email.list", "email.count", "email.cancel", "email.unschedule"}
            | {"suppression.describe", "suppression.list", "suppression.add"}
            | {"suppression.remove", "domain.describe", "domain.list", "domain.count"}
            | {"content.describe", "content.list", "content.render", "content.resume"}
            | {"run.list", "run.repeat", "subscription.describe", "subscription.list"}
            | {"subscription.end", "webhook.change", "webhook.describe", "webhook.list"}
            | {"webhook.test", "webhook.replay", "webhook.deliveries", "webhook.tries"}
            | {"client.describe", "client.list", "client.register", "client.change"}
            | {"client.revoke"}
            | {"client.add_key", "client.revoke_key", "relay.describe"},
            set(),
        ),
        (
            "inbound",
            {"email.send.otp", "email.send.transactional", "email.send.bulk"}
            | {"email.schedule.transactional", "email.schedule.bulk", "client.authenticate"}
            | {"email.find"},
            {"report.bounced", "report.delayed", "report.delivered", "report.complained"}
            | {"mail.received"},
        ),
    ],
)
def test_a_service_publishes_only_its_own_messages(
    name: str, commands: set[str], events: set[str]
) -> None:
    """A service cannot publish the events of another."""
    topics = USERS[name].topics

    assert {key for key in COMMAND_KEYS if re.search(topics[topology.COMMANDS], key)} == commands
    assert {key for key in EVENT_KEYS if re.search(topics[topology.EVENTS], key)} == events


@pytest.mark.parametrize("user", rights.USERS, ids=name_of)
def test_every_exchange_that_can_be_written_to_is_limited_by_key(user: User) -> None:
    """Without a topic right for an exchange every key is allowed there."""
    written = {each.name for each in EXCHANGES if re.search(user.write, each.name)}

    assert written - {topology.SHARDED_MAILS} <= user.topics.keys()
    if topology.SHARDED_MAILS in written:
        assert all(re.search(user.topics[topology.COMMANDS], key) for key in topology.SHARD_KEYS)
    assert not re.search(user.write, topology.UNROUTED)
