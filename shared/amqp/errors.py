"""What can go wrong between us and the broker."""

import struct

from pamqp.exceptions import PAMQPException

# What reading bytes leads to, here and in pamqp, when they are not what they should be: an end
# too early, an unknown type, a time beyond the calendar, tables in tables without an end.
READ_ERRORS = (
    ArithmeticError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    PAMQPException,
)


class AmqpError(Exception):
    """The root of all that this client raises."""


class Closed(AmqpError):
    """The channel or its connection is gone; `code` is the broker's reason, 0 if it gave none."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class LoginRefused(AmqpError):
    """The broker does not know this user, or not with this password."""


class VhostRefused(LoginRefused):
    """The broker has no such virtual host, or not for this user."""


class Returned(AmqpError):
    """No queue takes a message that must be taken."""


class Nacked(AmqpError):
    """The broker does not keep a message: a queue is full, or broken."""


class Unconfirmed(AmqpError):
    """The broker has not said in time whether it keeps a message. It may be kept."""
