"""Each service is told what it needs and nothing that is another's."""

from pathlib import Path

import pytest

from ops.stack.environment import SERVICES, filed, give_way, of_service, of_simulator
from ops.stack.settings import PORTS

_RUN = Path("/run-dir")
_SECRETS = {"GATEWAY_ADMIN_TOKEN", "GATEWAY_KEY_SECRET", "OTP_KEY", "SEALING_KEY"}


def _of(service: str, **environ: str) -> dict[str, str]:
    return of_service(service, environ, PORTS, _RUN, lambda name: f"secret {name}")


@pytest.mark.parametrize(
    ("service", "secrets"),
    [
        ("gateway", {"GATEWAY_ADMIN_TOKEN", "GATEWAY_KEY_SECRET"}),
        ("otp", {"OTP_KEY", "SEALING_KEY"}),
        ("sender", {"SEALING_KEY"}),
        ("classifier", set()),
    ],
)
def test_a_service_gets_its_own_secrets_alone(service: str, secrets: set[str]) -> None:
    """Also when the user's environment holds all of them."""
    told = _of(service, **dict.fromkeys(_SECRETS, "given"))

    assert told.keys() & _SECRETS == secrets


def test_what_the_user_says_to_a_service_wins_and_goes_to_no_other() -> None:
    """A prefix addresses one service."""
    environ = {"SENDER_SMTP_HOST": "relay.example", "SENDER_SMTP_PASSWORD": "hidden"}

    assert _of("sender", **environ).items() >= environ.items()
    assert not any("SENDER" in name for name in _of("otp", **environ))
    assert not any("SENDER" in name for name in of_simulator(environ, PORTS, _RUN))


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_shares_data_and_database(service: str) -> None:
    """What is for all goes to all."""
    told = _of(service, DATABASE_URL="postgresql+asyncpg://db.example/x", LOG_LEVEL="DEBUG")

    assert told["DATA_DIR"] == "/run-dir/data"
    assert told["DATABASE_URL"] == "postgresql+asyncpg://db.example/x"
    assert told["LOG_LEVEL"] == "DEBUG"


def test_a_broker_of_the_user_is_not_inherited() -> None:
    """The account each service gets is decided once, elsewhere."""
    assert "AMQP_URL" not in _of("sender", AMQP_URL="amqp://admin@broker.example/")


def test_the_sender_sends_to_the_simulator() -> None:
    """No mail leaves the machine unless the user says so."""
    told = _of("sender")

    assert told["SENDER_SMTP_HOST"] == "127.0.0.1"
    assert told["SENDER_SMTP_PORT"] == of_simulator({}, PORTS, _RUN)["SMTP_PORT"]


def _with_file(service: str, tree: dict[str, object], **environ: str) -> dict[str, str]:
    return give_way(_of(service, **environ), environ, filed(service, tree))


def test_a_file_goes_over_what_the_stack_suggests() -> None:
    """The environment goes over the file: what is only suggested must not stand there."""
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
    """As it does without a stack."""
    environ = {"SENDER_FROM": "other@me.example"}

    assert _with_file("sender", {"sender": {"from": "x"}}, **environ).items() >= environ.items()


def test_what_the_stack_has_to_know_is_its_own() -> None:
    """It looks where it says that a service listens, and is a client of the gateway."""
    tree: dict[str, object] = {"health_port": 1, "gateway": {"port": 1, "admin_token": "x"}}

    assert _with_file("gateway", tree) == _of("gateway")


@pytest.mark.parametrize("service", SERVICES)
def test_a_file_of_another_service_changes_nothing(service: str) -> None:
    """A section is one service's."""
    assert _with_file(service, {"scheduler": {"from": "x", "key": "x"}}) == _of(service)


def test_a_list_of_relays_is_in_the_place_of_the_simulator() -> None:
    """The sender takes one relay or a list, and refuses to guess between them."""
    told = _with_file("sender", {}, SENDER_RELAYS="[]")
    filed_ = _with_file("sender", {"sender": {"relays": []}})

    assert not [name for name in (*told, *filed_) if name.startswith("SENDER_SMTP")]


def test_the_stacks_ports_are_no_settings_of_a_service() -> None:
    """A service is told its health port as HEALTH_PORT, and refuses variables that are none."""
    found = _of("sender", SENDER_HEALTH_PORT="9", SENDER_FROM="a@me.example")

    assert "SENDER_HEALTH_PORT" not in found
    assert found["HEALTH_PORT"] == str(PORTS["SENDER_HEALTH_PORT"])
    assert _of("gateway", GATEWAY_PORT="9")["GATEWAY_PORT"] == "9"
