"""The way to the other services."""

from typing import Protocol

from shared.contracts import Contract
from shared.errors import NoAnswer


class Road(Protocol):
    """Carries messages. Methods raise Unavailable or NoAnswer."""

    async def publish(self, message: Contract) -> None:
        """Publish a command or event; return when it is kept."""

    async def ask(self, question: Contract, within: float) -> Contract:
        """Publish a question or command and give its answer; `within` is in seconds."""


def unexpected(answer: Contract) -> NoAnswer:
    """Give the error of an answer that does not fit the question."""
    return NoAnswer(f"an answer of the wrong type, {answer.routing_key}")
