"""The choice of a RabbitMQ."""

import pytest

from ops.brokers import BrokerSource, Machine, choose

_EVERYTHING = Machine(node=True, docker=True, installs=True)


@pytest.mark.parametrize(
    ("amqp_url", "machine", "source"),
    [
        ("amqp://broker.example/", _EVERYTHING, BrokerSource.GIVEN),
        (None, _EVERYTHING, BrokerSource.NODE),
        ("", Machine(node=False, docker=True, installs=True), BrokerSource.CONTAINER),
        (None, Machine(node=False, docker=False, installs=True), BrokerSource.PACKAGE),
        (None, Machine(node=False, docker=False, installs=False), BrokerSource.NONE),
    ],
)
def test_the_nearest_source_is_chosen(
    amqp_url: str | None, machine: Machine, source: BrokerSource
) -> None:
    """The order is: given, the machine's, a container, a new package."""
    assert choose(amqp_url, machine) is source
