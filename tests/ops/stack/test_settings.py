"""The settings of the stack, and the environment of each service."""

import os
import socket
from pathlib import Path

import pytest

from ops.stack.settings import (
    PORTS,
    SERVICES,
    StackError,
    StackSettings,
    check_free,
    file_variables,
    prefer_file,
    service_environment,
    simulator_environment,
)
from shared.errors import ConfigError

_RUN = Path("/run-dir")
_SECRETS = {
    "GATEWAY_ADMIN_TOKEN",
    "GATEWAY_KEY_SECRET",
    "OTP_KEY",
    "SEALING_KEY",
    "SUPPRESSION_KEY",
    "LINK_KEY",
    "BOUNCE_KEY",
    "WEBHOOK_KEY",
    "CONSOLE_SESSION_KEY",
    "CONSOLE_TOKEN",
}


def test_every_port_has_a_default_of_its_own() -> None:
    """No port has to be set."""
    settings = StackSettings.load({})

    assert dict(settings.ports) == PORTS
    assert settings.run_dir == Path(__file__).parents[3] / ".run"


def test_every_port_can_be_set() -> None:
    """A second stack needs other ports only."""
    environ = {name: str(port + 1000) for name, port in PORTS.items()}

    assert dict(StackSettings.load(environ).ports) == {n: p + 1000 for n, p in PORTS.items()}


@pytest.mark.parametrize("text", ["0", "-1", "65536", "http"])
def test_a_wrong_port_is_reported_by_its_variable(text: str) -> None:
    """The error names the variable."""
    with pytest.raises(ConfigError, match=r"^SMTP_PORT: must be a number from 1 to 65535$"):
        StackSettings.load({"SMTP_PORT": text})


def test_one_port_twice_is_refused() -> None:
    """Two servers cannot have one port."""
    with pytest.raises(ConfigError, match=r"^GATEWAY_PORT and SMTP_PORT: are both 2525"):
        StackSettings.load({"GATEWAY_PORT": "2525"})


def test_all_mistakes_are_reported_at_once() -> None:
    """All mistakes are reported together, without a password."""
    with pytest.raises(ConfigError) as caught:
        StackSettings.load(
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
    """The services get the absolute path of the file."""
    assert StackSettings.load({"CONFIG_FILE": "/x.toml"}).config == Path("/x.toml")
    assert (
        StackSettings.load({"CONFIG_FILE": "/x.toml"}, "y.toml").config == Path("y.toml").absolute()
    )
    assert StackSettings.load({}).config is None


def test_a_given_broker_needs_no_ports_of_ours() -> None:
    """With a given broker its ports need not be free."""
    needed = StackSettings.load({"AMQP_URL": "amqp://broker.example/"}).needed_ports()

    assert "GATEWAY_PORT" in needed
    assert not [name for name in needed if "RABBITMQ" in name]


def test_a_taken_port_is_reported_with_variable_and_holder() -> None:
    """The error names the process to end and the variable to set."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(StackError) as caught:
            check_free({"MAILBOX_PORT": port})

    assert f"port {port} is taken by" in str(caught.value)
    assert f"(process {os.getpid()})" in str(caught.value)
    assert "MAILBOX_PORT" in str(caught.value)


def _of(service: str, **environ: str) -> dict[str, str]:
    return service_environment(service, environ, PORTS, _RUN, lambda name: f"secret {name}")


@pytest.mark.parametrize(
    ("service", "secrets"),
    [
        ("gateway", {"GATEWAY_ADMIN_TOKEN", "GATEWAY_KEY_SECRET", "LINK_KEY"}),
        ("otp", {"OTP_KEY", "SEALING_KEY"}),
        ("sender", {"BOUNCE_KEY", "SEALING_KEY", "SUPPRESSION_KEY"}),
        ("classifier", set()),
        ("ledger", {"SUPPRESSION_KEY"}),
        ("scheduler", {"LINK_KEY"}),
        ("webhooks", {"WEBHOOK_KEY"}),
        ("console", {"CONSOLE_SESSION_KEY", "CONSOLE_TOKEN"}),
        ("inbound", {"BOUNCE_KEY"}),
    ],
)
def test_a_service_gets_its_own_secrets_alone(service: str, secrets: set[str]) -> None:
    """A service never gets another one's secret, even from the user's environment."""
    environment = _of(service, **dict.fromkeys(_SECRETS, "given"))

    assert environment.keys() & _SECRETS == secrets


def test_what_the_user_says_to_a_service_wins_and_goes_to_no_other() -> None:
    """A variable with a service's prefix reaches that service alone."""
    environ = {"SENDER_SMTP_HOST": "relay.example", "SENDER_SMTP_PASSWORD": "hidden"}

    assert _of("sender", **environ).items() >= environ.items()
    assert not any("SENDER" in name for name in _of("otp", **environ))
    assert not any("SENDER" in name for name in simulator_environment(environ, PORTS, _RUN))


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_shares_data_and_database(service: str) -> None:
    """Variables without a prefix reach all services."""
    environment = _of(service, DATABASE_URL="postgresql+asyncpg://db.example/x", LOG_LEVEL="DEBUG")

    assert environment["DATA_DIR"] == "/run-dir/data"
    assert environment["DATABASE_URL"] == "postgresql+asyncpg://db.example/x"
    assert environment["LOG_LEVEL"] == "DEBUG"


def test_a_broker_of_the_user_is_not_inherited() -> None:
    """AMQP_URL is set for each service separately."""
    assert "AMQP_URL" not in _of("sender", AMQP_URL="amqp://admin@broker.example/")


def test_the_sender_sends_to_the_simulator() -> None:
    """The relay is the simulator, unless the user sets another."""
    environment = _of("sender")

    assert environment["SENDER_SMTP_HOST"] == "127.0.0.1"
    assert environment["SENDER_SMTP_PORT"] == simulator_environment({}, PORTS, _RUN)["SMTP_PORT"]


def _with_file(service: str, tree: dict[str, object], **environ: str) -> dict[str, str]:
    return prefer_file(_of(service, **environ), environ, file_variables(service, tree))


def test_a_file_goes_over_what_the_stack_suggests() -> None:
    """A default of the stack is left out where the file has a value."""
    tree: dict[str, object] = {
        "sealing_key": "x",
        "sender": {"smtp_host": "relay.example", "from": "me@me.example"},
        "otp": {"key": "x"},
    }

    sender = _with_file("sender", tree)
    assert sender.keys() & {"SENDER_SMTP_HOST", "SENDER_FROM", "SEALING_KEY"} == set()
    assert sender["SENDER_SMTP_TLS"] == "none"
    assert _with_file("otp", tree).keys() & _SECRETS == set()


def test_the_users_environment_goes_over_the_file() -> None:
    """The user's environment takes precedence over the file, as without a stack."""
    environ = {"SENDER_FROM": "other@me.example"}

    assert _with_file("sender", {"sender": {"from": "x"}}, **environ).items() >= environ.items()


def test_what_the_stack_has_to_know_is_its_own() -> None:
    """The file can change neither the ports nor the administrator's token."""
    tree: dict[str, object] = {"health_port": 1, "gateway": {"port": 1, "admin_token": "x"}}

    assert _with_file("gateway", tree) == _of("gateway")


@pytest.mark.parametrize("service", SERVICES)
def test_a_file_of_another_service_changes_nothing(service: str) -> None:
    """A section of the file is for one service."""
    assert _with_file(service, {"webhooks": {"from": "x", "key": "x"}}) == _of(service)


def test_a_list_of_relays_is_in_the_place_of_the_simulator() -> None:
    """A list of relays replaces the simulator, since the sender refuses both."""
    environment = _with_file("sender", {}, SENDER_RELAYS="[]")
    filed_ = _with_file("sender", {"sender": {"relays": []}})

    assert not [name for name in (*environment, *filed_) if name.startswith("SENDER_SMTP")]


def test_the_stacks_ports_are_no_settings_of_a_service() -> None:
    """A service gets its health port as HEALTH_PORT only."""
    found = _of("sender", SENDER_HEALTH_PORT="9", SENDER_FROM="a@me.example")

    assert "SENDER_HEALTH_PORT" not in found
    assert found["HEALTH_PORT"] == str(PORTS["SENDER_HEALTH_PORT"])
    assert _of("gateway", GATEWAY_PORT="9")["GATEWAY_PORT"] == "9"
