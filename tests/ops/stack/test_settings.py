"""Ports and places from the environment, and one clear line for what cannot be."""

import os
import socket
from pathlib import Path

import pytest

from ops.stack.errors import StackError
from ops.stack.settings import PORTS, Settings, check_free
from shared.errors import ConfigError


def test_every_port_has_a_default_of_its_own() -> None:
    """Nothing has to be set."""
    settings = Settings.load({})

    assert dict(settings.ports) == PORTS
    assert settings.run_dir == Path(__file__).parents[3] / ".run"


def test_every_port_can_be_set() -> None:
    """A second stack beside the first needs other ports only."""
    environ = {name: str(port + 1000) for name, port in PORTS.items()}

    assert dict(Settings.load(environ).ports) == {n: p + 1000 for n, p in PORTS.items()}


@pytest.mark.parametrize("text", ["0", "-1", "65536", "http"])
def test_what_is_no_port_is_refused_by_its_variable(text: str) -> None:
    """The line names the variable to set."""
    with pytest.raises(ConfigError, match=r"^SMTP_PORT: must be a number from 1 to 65535$"):
        Settings.load({"SMTP_PORT": text})


def test_one_port_twice_is_refused() -> None:
    """Two servers cannot share a port."""
    with pytest.raises(ConfigError, match=r"^GATEWAY_PORT and SMTP_PORT: are both 2525"):
        Settings.load({"GATEWAY_PORT": "2525"})


def test_all_mistakes_are_told_at_once() -> None:
    """Addresses as well, before anything is started; no password is repeated."""
    with pytest.raises(ConfigError) as caught:
        Settings.load(
            {
                "MAILBOX_PORT": "x",
                "AMQP_URL": "http://u:hunter2@h/",
                "DATABASE_URL": "hunter2",
                "RABBITMQ_MANAGEMENT_URL": "15672",
            }
        )

    assert str(caught.value).splitlines() == [
        "MAILBOX_PORT: must be a number from 1 to 65535",
        "AMQP_URL: must begin with amqp:// or amqps://",
        "DATABASE_URL: must begin with postgresql+asyncpg://",
        "RABBITMQ_MANAGEMENT_URL: must begin with http:// or https://",
    ]


def test_a_file_for_the_services_is_named_by_flag_or_variable() -> None:
    """The services run in other places: they are given its whole path."""
    assert Settings.load({"CONFIG_FILE": "/x.toml"}).config == Path("/x.toml")
    assert Settings.load({"CONFIG_FILE": "/x.toml"}, "y.toml").config == Path("y.toml").absolute()
    assert Settings.load({}).config is None


def test_a_given_broker_needs_no_ports_of_ours() -> None:
    """Only what the stack itself listens on has to be free."""
    needed = Settings.load({"AMQP_URL": "amqp://broker.example/"}).needed_ports()

    assert "GATEWAY_PORT" in needed
    assert not [name for name in needed if "RABBITMQ" in name]


def test_a_taken_port_is_told_with_variable_and_holder() -> None:
    """The user reads what to end or what to set."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(StackError) as caught:
            check_free({"MAILBOX_PORT": port})

    assert f"port {port} is taken by" in str(caught.value)
    assert f"(process {os.getpid()})" in str(caught.value)
    assert "MAILBOX_PORT" in str(caught.value)
