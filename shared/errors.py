"""All that crosses the seam as an exception, on purpose.

A handler raises `Retry` or `Reject` and nothing else; what it expects to happen it returns.
Whoever publishes or asks meets `Unavailable` or `NoAnswer`, whoever decodes `Undecodable`.
"""


class Retry(Exception):
    """The delivery cannot be finished now and may be later: back through the delay ladder.

    `after` is a wish in seconds; without it the seam's own schedule decides.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Reject(Exception):
    """The message can never be handled: to the dead letters, with this reason."""


class Undecodable(ValueError):
    """The bytes are not the contract that their type names."""


class Unavailable(ConnectionError):
    """The broker is away, refuses the message or has no queue for it: it may not be kept."""


class NoAnswer(TimeoutError):
    """Nobody answered the question before its deadline."""


class ConfigError(ValueError):
    """The settings are wrong; the message has one line for each mistake."""
