"""Subscriptions: the commands to the scheduler."""

from typing import Literal

from pydantic import Field

from shared.contracts.fields import Address, Id, Retries
from shared.contracts.message import Command

Frequency = Literal["@hourly", "@daily", "@weekly", "@monthly"]


class Subscribe(Command):
    """Asks the scheduler to mail a content to an address again and again.

    The same address and content type of a client are one subscription: a second command changes
    its frequency.
    """

    keys = ("schedule.subscribe",)

    email: Address
    client: Id | None = None
    content_type: Id = Field(description="The name of the content")
    frequency: Frequency
    retries: Retries | None = Field(
        None, description="Of each mail: further attempts at most; the schedule alone if absent"
    )


class Unsubscribe(Command):
    """Asks the scheduler to end a subscription; harmless if there is none."""

    keys = ("schedule.unsubscribe",)

    email: Address
    client: Id | None = None
    content_type: Id
