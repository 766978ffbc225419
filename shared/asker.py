"""Pure: whether a reply may go to the `reply_to` of a message.

A service replies through the default exchange, which reaches every queue by name, with rights that
the asker does not have. So the name is checked before the message is handled.
"""

import binascii
import re
from base64 import b64decode
from functools import lru_cache

from shared import topology
from shared.errors import Undecodable
from shared.identity import Identity

DIRECT_REPLY = "amq.rabbitmq.reply-to"  # in a question; the broker writes an address in its place

# The address that the broker writes: the process of the asking channel in Erlang's external term
# format (NEW_PID_EXT), its node's name hashed, and a random key; seen on 3.10.8. RabbitMQ 3.10 ends
# a connection that publishes to any other address of this prefix (INTERNAL_ERROR, issue 10, A1).
_ADDRESS = re.compile(re.escape(DIRECT_REPLY) + r"\.([A-Za-z0-9+/]+={0,2})\.[A-Za-z0-9+/]{22}==")
_PROCESS = re.compile(rb"\x83X(?:v\x00|w)(.)(reply@[0-9]{1,10}).{12}", re.DOTALL)


def check(reply_to: str | None, asker: Identity) -> None:
    """Raise Undecodable when no reply may go to `reply_to`; None is no reply.

    A queue must belong to the asker by its name, unless the asker is a service or uses our own
    broker user: no program may have replies written into another program's queue.
    """
    if not reply_to or _is_direct(reply_to):
        return
    is_own = asker.names_clients or (asker.user and reply_to.startswith(f"{asker.user}."))
    if topology.is_reserved(reply_to) or not is_own:
        raise Undecodable(
            f"reply_to: {reply_to[:100]!r} is neither a direct reply-to address nor a queue that "
            f"begins with the user_id, {asker.user!r}"
        )


@lru_cache(maxsize=1024)  # a channel asks many times from one address
def _is_direct(reply_to: str) -> bool:
    """Return whether it is an address that the broker wrote."""
    address = _ADDRESS.fullmatch(reply_to)
    try:
        process = _PROCESS.fullmatch(b64decode(address[1])) if address else None
    except binascii.Error:
        return False
    return process is not None and process[1][0] == len(process[2])
