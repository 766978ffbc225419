"""Pure: the AsyncAPI 3.0 document, made from the contracts and the topology."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from shared import contracts, rights, topology
from shared.contracts import CONTRACTS, Answer, Contract, Event
from shared.delivery import TRACE
from shared.topology import SHARDS, type_of

Json = dict[str, Any]

VERSION = "1.0.0"  # of the messages, not of the program
BINDING = "0.3.0"  # of AsyncAPI's description of AMQP 0-9-1
REPLIES = "replies"
_SHARDS_TEXT = f"A client's own shard is `{{}}.<n>` with n from 0 to {SHARDS - 1}: delivery.md"

# What is sent to `reply_to`: the answer to a question, the outcomes of a command.
ANSWERS: Mapping[type[Contract], tuple[type[Contract], ...]] = {
    contracts.SendEmail: tuple(each for each in CONTRACTS if issubclass(each, contracts.Outcome)),
    contracts.AuthenticateClient: (contracts.ClientAuthenticated,),
    contracts.ListClients: (contracts.ClientsListed,),
    contracts.DescribeClient: (contracts.ClientAnswered,),
    contracts.RegisterClient: (contracts.ClientAnswered,),
    contracts.ChangeClient: (contracts.ClientAnswered,),
    contracts.RevokeClient: (contracts.ClientAnswered,),
    contracts.AddClientKey: (contracts.ClientAnswered,),
    contracts.RevokeClientKey: (contracts.ClientAnswered,),
    contracts.DescribeRelays: (contracts.RelaysDescribed,),
    contracts.IssueCode: (contracts.CodeIssued, contracts.CodeWithheld),
    contracts.CancelCode: (contracts.CodeCancelled,),
    contracts.VerifyCode: (
        contracts.CodeVerified,
        contracts.CodeRefused,
        contracts.CodeUnchecked,
    ),
    contracts.DescribeDomain: (contracts.DomainDescribed,),
    contracts.ListDomains: (contracts.DomainsListed,),
    contracts.CountDomains: (contracts.DomainsCounted,),
    contracts.DescribeEmail: (contracts.EmailDescribed,),
    contracts.FindEmail: (contracts.EmailFound,),
    contracts.ListEmails: (contracts.EmailsListed,),
    contracts.CountEmails: (contracts.EmailsCounted,),
    contracts.CancelEmail: (contracts.EmailCancelling,),
    contracts.DescribeSuppression: (contracts.SuppressionsListed,),
    contracts.ListSuppressions: (contracts.SuppressionsListed,),
    contracts.AddSuppressions: (contracts.SuppressionsChanged,),
    contracts.RemoveSuppressions: (contracts.SuppressionsChanged,),
}
_KEYS = {key: contract for contract in CONTRACTS for key in contract.keys}
_PUBLISHED = {key: each for key, each in _KEYS.items() if not issubclass(each, Answer)}


def document() -> Json:
    """Return the whole document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Postrider",
            "version": VERSION,
            "description": "Every message on the queues. How to publish and consume: publish.md.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {"rabbitmq": _server()},
        "channels": _channels(),
        "operations": dict(_operations()),
        "components": {
            "messages": {key: _message(key, contract) for key, contract in _KEYS.items()},
            "schemas": _schemas(),
            "securitySchemes": {
                "user": {"type": "userPassword", "description": "A user with its own rights"}
            },
        },
    }


def _server() -> Json:
    return {
        "host": "localhost:5672",
        "protocol": "amqp",
        "protocolVersion": "0-9-1",
        "description": "RabbitMQ 3.10 or newer",
        "security": [_reference("components/securitySchemes/user")],
    }


def _channels() -> Json:
    answered = dict.fromkeys(answer for answers in ANSWERS.values() for answer in answers)
    return {key: _channel(key, contract) for key, contract in _PUBLISHED.items()} | {
        REPLIES: {
            "address": None,
            "description": "The queue that `reply_to` names, through the default exchange",
            "messages": {key: _message_of(key) for answer in answered for key in answer.keys},
            "bindings": _amqp({"is": "routingKey", "exchange": {"name": "", "type": "direct"}}),
        }
    }


def _channel(key: str, contract: type[Contract]) -> Json:
    exchange = {"type": "topic", "durable": True, "autoDelete": False, "vhost": "/"}
    return {
        "address": key,
        "messages": {key: _message_of(key)},
        "bindings": _amqp(
            {"is": "routingKey", "exchange": {"name": _exchange(contract)} | exchange}
        ),
    } | ({"description": _SHARDS_TEXT.format(key)} if type_of(f"{key}.0") == key else {})


def _message(key: str, contract: type[Contract]) -> Json:
    return {
        "name": key,
        "title": contract.__name__,
        "summary": (contract.__doc__ or "").partition("\n")[0],
        "contentType": "application/json",
        "headers": {"type": "object", "properties": {name: {"type": "string"} for name in TRACE}},
        "payload": _reference(f"components/schemas/{contract.__name__}"),
        "bindings": _amqp({"messageType": key}),
        "x-amqp-properties": _properties(key),
    }


def _properties(key: str) -> Json:
    text: Json = {"type": "string"}
    return {
        "type": "object",
        "required": ["type", "message_id"],
        "properties": {
            "type": {"const": key},
            "message_id": text | {"description": "The same as `id`"},
            "correlation_id": text
            | {"description": "That of the message that led to this one; `id` if absent"},
            "app_id": text | {"description": "The service or program that published it"},
            "content_type": {"const": "application/json"},
            "delivery_mode": {
                "enum": [1, 2],
                "description": "2, persistent, for messages that must be kept",
            },
            "timestamp": {"type": "integer", "description": "Seconds since 1970"},
            "user_id": text
            | {"description": "The publisher's user of the broker, which is the client"},
            "x-user": text
            | {"description": "A header of copies only: the user_id of the first publisher"},
            "reply_to": text
            | {"description": "amq.rabbitmq.reply-to, or the requester's own queue"},
        },
    }


def _operations() -> Iterator[tuple[str, Json]]:
    for owner in topology.Owner:
        for key, queue in _received(owner):
            operation = _operation(owner, "receive", key) | {"description": f"Queue {queue}"}
            yield f"{owner}.receive.{key}", operation | _reply(_KEYS[key])
        for key in _sent(owner):
            yield f"{owner}.send.{key}", _operation(owner, "send", key)


def _operation(owner: str, action: str, key: str) -> Json:
    return {
        "action": action,
        "channel": _reference(f"channels/{key}"),
        "messages": [_reference(f"channels/{key}/messages/{key}")],
        "tags": [{"name": owner}],
    }


def _reply(contract: type[Contract]) -> Json:
    keys = [key for answer in ANSWERS.get(contract, ()) for key in answer.keys]
    if not keys:
        return {}
    return {
        "reply": {
            "address": {
                "location": "$message.header#/replyTo",
                "description": "The AMQP property reply_to; without it no answer is sent",
            },
            "channel": _reference(f"channels/{REPLIES}"),
            "messages": [_reference(f"channels/{REPLIES}/messages/{key}") for key in keys],
        }
    }


def _received(owner: topology.Owner) -> Iterator[tuple[str, str]]:
    """Yield each key that a service's queues are bound to, with the queue."""
    for queue in topology.queues((owner,)):
        for binding in queue.bindings if queue.owner == owner else ():
            for key, contract in _PUBLISHED.items():
                if _exchange(contract) == binding.exchange and routes(binding.key, key):
                    yield key, queue.name


def _sent(owner: topology.Owner) -> Iterator[str]:
    """Yield each key that a service has the right to publish."""
    user = next(user for user in rights.USERS if user.name == owner)
    for key, contract in _PUBLISHED.items():
        if re.search(user.topics[_exchange(contract)], key):
            yield key


def routes(pattern: str, key: str) -> bool:
    """Return whether a topic binding matches a key: `*` is one word, `#` any number of words."""
    if not pattern:
        return not key
    first, _, rest = pattern.partition(".")
    word, _, others = key.partition(".")
    if first == "#":
        return not rest or routes(rest, key) or (bool(key) and routes(pattern, others))
    return bool(key) and first in {"*", word} and routes(rest, others)


def _exchange(contract: type[Contract]) -> str:
    return topology.EVENTS if issubclass(contract, Event) else topology.COMMANDS


def _schemas() -> Json:
    _, schema = models_json_schema(
        [(contract, "validation") for contract in CONTRACTS],
        ref_template="#/components/schemas/{model}",
    )
    schemas: Json = schema["$defs"]
    return schemas


def _message_of(key: str) -> Json:
    return _reference(f"components/messages/{key}")


def _reference(path: str) -> Json:
    return {"$ref": f"#/{path}"}


def _amqp(binding: Json) -> Json:
    return {"amqp": binding | {"bindingVersion": BINDING}}
