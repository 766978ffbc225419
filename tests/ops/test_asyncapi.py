"""The AsyncAPI document."""

from collections.abc import Iterator
from typing import Any

import pytest

from ops.asyncapi import document, routes
from shared import topology
from shared.contracts import CONTRACTS, Answer

DOCUMENT = document()
OPERATIONS = DOCUMENT["operations"]


def references(part: object) -> Iterator[str]:
    """Yield every reference in a part of the document."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for item in part:
            yield from references(item)


def resolve(reference: str) -> object:
    """Follow a reference and those on its way. Raises KeyError."""
    part: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        part = part[step]
        while isinstance(part, dict) and "$ref" in part:
            part = resolve(part["$ref"])
    return part


def test_every_reference_leads_somewhere() -> None:
    """Every reference has a target."""
    assert all(resolve(reference) for reference in references(DOCUMENT))


def test_every_contract_is_described() -> None:
    """Each contract is described under each of its keys, with its schema."""
    keys = [key for contract in CONTRACTS for key in contract.keys]

    assert list(DOCUMENT["components"]["messages"]) == keys
    assert DOCUMENT["components"]["schemas"].keys() >= {each.__name__ for each in CONTRACTS}


def test_every_message_but_answers_has_a_channel() -> None:
    """The address of a channel is the routing key; answers have `reply_to`."""
    keys = {key for each in CONTRACTS if not issubclass(each, Answer) for key in each.keys}
    channels = DOCUMENT["channels"]

    assert {each["address"] for each in channels.values()} == keys | {None}
    assert {each["bindings"]["amqp"]["exchange"]["name"] for each in channels.values()} == {
        topology.COMMANDS,
        topology.EVENTS,
        "",
    }


def test_operations_are_those_of_the_running_services() -> None:
    """A service that does not exist yet has no operation."""
    names = {name.partition(".")[0] for name in OPERATIONS}

    assert names == set(topology.Owner)


@pytest.mark.parametrize(
    "name",
    [
        "gateway.send.email.send.transactional",
        "gateway.send.code.verify",
        "sender.receive.email.send.bulk",
        "sender.send.email.uncertain",
        "otp.receive.code.verify",
        "otp.send.email.send.otp",
        "classifier.receive.email.bounced",
        "classifier.receive.feedback.reported",
        "classifier.send.domain.classified",
    ],
)
def test_services_take_and_say_what_the_design_says(name: str) -> None:
    """The operations of each service are those of the design."""
    assert name in OPERATIONS


@pytest.mark.parametrize(
    "name",
    ["otp.send.email.send.bulk", "sender.receive.code.issue", "classifier.receive.email.deferred"],
)
def test_services_take_and_say_no_more(name: str) -> None:
    """No service has another right or binding."""
    assert name not in OPERATIONS


def test_the_channels_of_mails_name_their_shards() -> None:
    """A program learns of the key of its own shard where it reads of the plain one."""
    described = {key for key, each in DOCUMENT["channels"].items() if "shard" in str(each)}

    assert described == {"email.send.transactional", "email.send.bulk"}
    assert "email.send.bulk.<n>" in DOCUMENT["channels"]["email.send.bulk"]["description"]


def test_a_question_describes_its_answers() -> None:
    """A question has the list of its answers."""
    told = {
        name: [each["$ref"].rpartition("/")[2] for each in operation["reply"]["messages"]]
        for name, operation in OPERATIONS.items()
        if "reply" in operation
    }

    assert told["otp.receive.code.verify"] == [
        "code.verified",
        "code.refused",
        "code.unchecked",
    ]
    assert told["classifier.receive.domain.describe"] == ["domain.described"]
    assert told["classifier.receive.domain.list"] == ["domain.listed"]
    assert told["classifier.receive.domain.count"] == ["domain.counted"]
    assert len(told["sender.receive.email.send.otp"]) == 8


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("#", "", True),
        ("#", "a.b.c", True),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("a.#", "b", False),
        ("#.c", "a.b.c", True),
        ("#.c", "c", True),
        ("a.#.c", "a.c", True),
        ("a.#.c", "a.b.b.c", True),
        ("a.#.c", "a.b", False),
    ],
)
def test_bindings_match_as_the_broker_s_do(pattern: str, key: str, expected: bool) -> None:  # noqa: FBT001 -- a table
    """`*` is one word, `#` is any number of words, none among them."""
    assert routes(pattern, key) is expected
