"""The exceptions of the messaging layer.

A handler raises `Retry`, `DatabaseAway` or `Reject` and no others; expected outcomes are values
that it returns.
Publishing raises `Unavailable`, a request `NoAnswer` too, decoding `Undecodable`.
"""


class Retry(Exception):
    """The delivery cannot be handled now; it comes back after a delay.

    `after` is the wanted delay in seconds; without it `shared.retry` decides.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class DatabaseAway(Retry):
    """The database does not answer: the delivery is handled again in place, under its limit."""


class Reject(Exception):
    """The message can never be handled; it becomes a dead letter with this reason."""


class Undecodable(ValueError):
    """The body is not of the contract that its type names."""


class Unavailable(ConnectionError):
    """The broker is away, refuses the message or has no queue for it; the message may be lost."""


class NoQueue(Unavailable):
    """No queue takes the message, so no service runs that would handle it. It is not kept."""


class NoAnswer(TimeoutError):
    """No answer to a question came before its deadline."""


class NewerTables(Exception):
    """The tables of a service are of a later version than its own; a restart does not help."""


class ConfigError(ValueError):
    """The settings are wrong; the message has one line for each mistake."""
