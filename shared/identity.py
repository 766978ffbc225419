"""Pure: the publisher of a message, the client that it may act for, and where its reply may go.

A routing key proves nothing: RabbitMQ checks topic rights where a message is published, and not
where it is dead-lettered, passed on from exchange to exchange, or named in a CC header. Only the
property `user_id` proves something: the broker refuses any but the connection's own user.
"""

import binascii
import re
from base64 import b64decode
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from shared.contracts import AcceptedEmail, Contract, OperatorQuestion, SendEmail
from shared.contracts.fields import Id
from shared.errors import Undecodable
from shared.topology import OPERATOR, UNROUTED, Owner, is_reserved

USER = "x-user"  # of a copy: the first publisher; empty when it is unknown

# The users of operators, who replay dead letters and ask what nobody else may.
OPERATORS = frozenset({OPERATOR, Owner.CONSOLE})
# The users whose messages name the client they are for; any other user is a client itself.
CLIENT_NAMING = frozenset({*Owner, OPERATOR} - {Owner.CLASSIFIER})

DIRECT_REPLY = "amq.rabbitmq.reply-to"  # in a question; the broker writes an address in its place

# The address that the broker writes: the process of the asking channel in Erlang's external term
# format (NEW_PID_EXT), its node's name hashed, and a random key; seen on 3.10.8. RabbitMQ 3.10 ends
# a connection that publishes to any other address of this prefix (INTERNAL_ERROR, issue 10, A1).
_ADDRESS = re.compile(re.escape(DIRECT_REPLY) + r"\.([A-Za-z0-9+/]+={0,2})\.[A-Za-z0-9+/]{22}==")
_PROCESS = re.compile(rb"\x83X(?:v\x00|w)(.)(reply@[0-9]{1,10}).{12}", re.DOTALL)

_ID: TypeAdapter[str] = TypeAdapter(Id)

C = TypeVar("C", bound=Contract)


def may_name_clients(user: str) -> bool:
    """Return whether messages of the broker's user `user` may name any client."""
    return user in CLIENT_NAMING


def may_copy(queue: str, user: str) -> bool:
    """Return whether a broker's user may write copies, with our own headers, into `queue`.

    These users are the queue's owner, through delay queues and dead letters, and those who replay
    dead letters: the operator and the console. Unroutable messages may come from any service.
    """
    owner = queue.partition(".")[0]
    return user in OPERATORS or user == owner or (queue == UNROUTED and user in set(Owner))


@dataclass(frozen=True, slots=True)
class Identity:
    """The first publisher of a message, as far as the broker has checked it."""

    user: str | None = None  # None when the publisher did not set user_id
    names_clients: bool = False  # whether `client` in the body counts
    is_copy: bool = False  # made by a service of ours, so that its headers are believed
    is_forged: bool = False  # it has a header that only a copy has
    is_operator: bool = False  # the console, the operator, or the only user that there is


@lru_cache(maxsize=1024)  # few users publish all messages
def identify(queue: str, reader: str, user_id: str | None, stated: str | None) -> Identity:
    """Identify the publisher of a message in `queue`, read by the broker's user `reader`.

    `stated` is its header USER. It is believed only from users that write copies into this
    queue: the reader, the queue's owner, the operator, who replays dead letters.
    """
    is_copy = user_id is not None and (user_id == reader or may_copy(queue, user_id))
    user = stated or None if is_copy and stated is not None else user_id
    names_clients = user is not None and (user == reader or may_name_clients(user))
    is_operator = user is not None and (user == reader or user in OPERATORS)
    is_forged = stated is not None and not is_copy
    return Identity(user, names_clients, is_copy, is_forged, is_operator)


def attributed(message: C, identity: Identity) -> C:
    """Return a message with the client that its publisher may act for. Raises Undecodable.

    A service that knows its clients, such as the gateway, may name any; every other user is a
    client itself. Without a known user a mail is sent for no client, and a message about codes must
    not name one.
    """
    if identity.is_forged:
        raise Undecodable(f"{USER}: only a service or {OPERATOR} may set this header")
    if isinstance(message, OperatorQuestion) and not identity.is_operator:
        raise Undecodable(f"only {OPERATOR} and {Owner.CONSOLE} may ask this")
    if identity.names_clients or "client" not in type(message).model_fields:
        return message
    claimed: str | None = getattr(message, "client")  # noqa: B009 -- not every contract has it
    if claimed == identity.user:
        return message
    if identity.user is None and not isinstance(message, SendEmail | AcceptedEmail):
        raise Undecodable(f"client: {claimed!r} is not believed without the property user_id")
    return message.model_copy(update={"client": _client(identity.user)})


def client_of(claimed: str | None, publisher: Identity) -> str | None:
    """Return the client of a message whose body claims one."""
    return claimed if publisher.names_clients else publisher.user


def check_reply_to(reply_to: str | None, publisher: Identity) -> None:
    """Raise Undecodable when no reply may go to `reply_to`; None is no reply.

    A service replies through the default exchange, which reaches every queue by name, with rights
    that the publisher does not have. So a queue must belong to the publisher by its name, unless
    the publisher is a service or uses our own broker user: no program may have replies written
    into another program's queue.
    """
    if not reply_to or _is_direct(reply_to):
        return
    user = publisher.user
    is_own = publisher.names_clients or (user and reply_to.startswith(f"{user}."))
    if is_reserved(reply_to) or not is_own:
        raise Undecodable(
            f"reply_to: {reply_to[:100]!r} is neither a direct reply-to address nor a queue that "
            f"begins with the user_id, {user!r}"
        )


@lru_cache(maxsize=1024)  # a channel asks many times from one address
def _is_direct(reply_to: str) -> bool:
    """Return whether the broker wrote this address."""
    address = _ADDRESS.fullmatch(reply_to)
    try:
        process = _PROCESS.fullmatch(b64decode(address[1])) if address else None
    except binascii.Error:
        return False
    return process is not None and process[1][0] == len(process[2])


def _client(user: str | None) -> str | None:
    try:
        return user and _ID.validate_python(user)
    except ValidationError:
        raise Undecodable(f"user_id: {user!r} cannot be a client's id") from None
