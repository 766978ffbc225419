"""Where RabbitMQ comes from."""

import pytest

from ops.brokers import Machine, Source, choose

_EVERYTHING = Machine(node=True, docker=True, installs=True)


@pytest.mark.parametrize(
    ("amqp_url", "machine", "source"),
    [
        ("amqp://broker.example/", _EVERYTHING, Source.GIVEN),
        (None, _EVERYTHING, Source.NODE),
        ("", Machine(node=False, docker=True, installs=True), Source.CONTAINER),
        (None, Machine(node=False, docker=False, installs=True), Source.PACKAGE),
        (None, Machine(node=False, docker=False, installs=False), Source.NONE),
    ],
)
def test_the_nearest_source_is_chosen(
    amqp_url: str | None, machine: Machine, source: Source
) -> None:
    """Given, this machine's, a container, installed: nothing is installed in vain."""
    assert choose(amqp_url, machine) is source
