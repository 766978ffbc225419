"""What stops the stack from coming up."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ops import ports
from ops.broker import BrokerPorts
from shared.config.url import check_broker, check_database, check_http
from shared.errors import ConfigError

_TREE = Path(__file__).parent.parent.parent
# Each by the environment variable that sets it. None lies in 35672-35682, where RabbitMQ's command
# line tools listen, or from 32768 on, where Linux takes the ports of outgoing connections.
PORTS = {
    "GATEWAY_PORT": 8080,
    "MAILBOX_PORT": 8025,
    "SMTP_PORT": 2525,
    "RABBITMQ_PORT": 5673,
    "RABBITMQ_MANAGEMENT_PORT": 15683,
    "RABBITMQ_DIST_PORT": 25683,
    "RABBITMQ_EPMD_PORT": 24369,
    "SENDER_HEALTH_PORT": 8091,
    "OTP_HEALTH_PORT": 8092,
    "CLASSIFIER_HEALTH_PORT": 8093,
}
_HIGHEST = 65535
_URLS = {
    "AMQP_URL": check_broker,
    "DATABASE_URL": check_database,
    "RABBITMQ_MANAGEMENT_URL": check_http,
}
# In the order of starting; they are ended in the reverse one.
SERVICES = ("classifier", "otp", "sender", "gateway")
SECRETS = {
    "gateway": ("GATEWAY_ADMIN_TOKEN", "GATEWAY_KEY_SECRET"),
    "otp": ("OTP_KEY", "SEALING_KEY"),
    "sender": ("SEALING_KEY",),
    "classifier": (),
}
_ALL_SECRETS = frozenset(name for names in SECRETS.values() for name in names)
_RELAY = frozenset({"SENDER_SMTP_HOST", "SENDER_SMTP_PORT", "SENDER_SMTP_TLS"})
# What a file may say otherwise. The administrator's token is not in it, for the stack itself is a
# client of the gateway; nor are the places where the stack looks for a service.
_SUGGESTED = {"SENDER_FROM", *_RELAY, *_ALL_SECRETS} - {"GATEWAY_ADMIN_TOKEN"}


class StackError(Exception):
    """The stack cannot go on; the message tells a person in one line what to do."""


@dataclass(frozen=True)
class StackSettings:
    """Ports by their variable, the folder of all files, a broker if one is given."""

    ports: Mapping[str, int]
    run_dir: Path
    amqp_url: str | None
    management_url: str | None  # of a given broker, if it is known
    config: Path | None = None  # the services' file

    @classmethod
    def load(cls, environ: Mapping[str, str], config: str | None = None) -> Self:
        """Read the environment; `config` is a file of settings that goes to the services.

        Raises ConfigError with a line for each mistake.
        """
        config = config or environ.get("CONFIG_FILE")
        chosen = {name: environ.get(name) or str(default) for name, default in PORTS.items()}
        mistakes = [*_port_mistakes(chosen), *_url_mistakes(environ)]
        if mistakes:
            raise ConfigError("\n".join(mistakes))
        return cls(
            ports={name: int(text) for name, text in chosen.items()},
            run_dir=Path(environ.get("RUN_DIR") or _TREE / ".run").absolute(),
            amqp_url=environ.get("AMQP_URL") or None,
            management_url=environ.get("RABBITMQ_MANAGEMENT_URL") or None,
            config=Path(config).expanduser().absolute() if config else None,
        )

    @property
    def broker_ports(self) -> BrokerPorts:
        """The ports of a broker of our own."""
        return BrokerPorts(
            amqp=self.ports["RABBITMQ_PORT"],
            management=self.ports["RABBITMQ_MANAGEMENT_PORT"],
            distribution=self.ports["RABBITMQ_DIST_PORT"],
            epmd=self.ports["RABBITMQ_EPMD_PORT"],
        )

    def needed_ports(self) -> dict[str, int]:
        """Tell which ports have to be free; a given broker brings its own."""
        own = self.amqp_url is None
        return {name: port for name, port in self.ports.items() if own or "RABBITMQ" not in name}


def check_free(needed: Mapping[str, int]) -> None:
    """Raise StackError for the first port that is taken, naming its variable and its holder."""
    for name, port in needed.items():
        if not ports.is_free(port):
            by = ports.holder(port) or "another program"
            raise StackError(
                f"port {port} is taken by {by}: end that or set {name} to another port"
            )


def _port_mistakes(chosen: Mapping[str, str]) -> Iterator[str]:
    owners: dict[int, str] = {}
    for name, text in chosen.items():
        if not text.isdecimal() or not 0 < int(text) <= _HIGHEST:
            yield f"{name}: must be a number from 1 to {_HIGHEST}"
        elif (other := owners.setdefault(int(text), name)) != name:
            yield f"{other} and {name}: are both {int(text)}, set one of them to another port"


def _url_mistakes(environ: Mapping[str, str]) -> Iterator[str]:
    for name, check in _URLS.items():
        try:
            if text := environ.get(name):
                check(text)
        except ValueError as error:
            yield f"{name}: {error}"


def health_port(service: str) -> str:
    """Name the variable of the port that answers for a service's health."""
    return "GATEWAY_PORT" if service == "gateway" else f"{service.upper()}_HEALTH_PORT"


def service_environment(
    service: str,
    environ: Mapping[str, str],
    ports: Mapping[str, int],
    run_dir: Path,
    secret: Callable[[str], str],
) -> dict[str, str]:
    """Give a service's environment but for AMQP_URL.

    It inherits the user's but for what is meant for other services, gets no secret it does not
    need, and what the user says to it by its prefix wins.
    """
    prefix, given = f"{service.upper()}_", _inherited(service, environ)
    return {
        **given,
        **_common(service, ports, run_dir),
        **_own(service, ports),
        **{name: value for name, value in given.items() if name.startswith(prefix)},
        **{name: secret(name) for name in SECRETS[service]},
    }


def file_variables(service: str, tree: Mapping[str, object]) -> frozenset[str]:
    """Name the variables of what a file of settings tells a service."""
    section = tree.get(service)
    words = section if isinstance(section, Mapping) else {}
    own = (f"{service}_{word}" for word in words)
    return frozenset(name.upper() for name in (*tree, *words, *own))


def prefer_file(
    variables: Mapping[str, str], environ: Mapping[str, str], told: Collection[str]
) -> dict[str, str]:
    """Take out what the stack suggests and a file tells otherwise, since the environment would win.

    What the user says in the environment stays. Relays in a list are in the place of the one.
    """
    relay = _RELAY if "SENDER_RELAYS" in {*told, *environ} else frozenset[str]()
    otherwise = (_SUGGESTED.intersection(told) | relay) - environ.keys()
    return {name: text for name, text in variables.items() if name not in otherwise}


def simulator_environment(
    environ: Mapping[str, str], ports: Mapping[str, int], run_dir: Path
) -> dict[str, str]:
    """Give the simulator's environment."""
    return {
        **_inherited("simulator", environ),
        "PYTHONUNBUFFERED": "1",
        "SMTP_PORT": str(ports["SMTP_PORT"]),
        "MAILBOX_PORT": str(ports["MAILBOX_PORT"]),
        "MAILBOX_DATA": str(run_dir / "data" / "mailbox"),
    }


def _inherited(service: str, environ: Mapping[str, str]) -> dict[str, str]:
    others = tuple(f"{name.upper()}_" for name in SERVICES if name != service)
    # The stack's own variable of a port is no setting of a service, but for the gateway's.
    hidden = {*_ALL_SECRETS, "AMQP_URL", *({health_port(service)} - {"GATEWAY_PORT"})}
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(others) and name not in hidden
    }


def _common(service: str, ports: Mapping[str, int], run_dir: Path) -> dict[str, str]:
    return {
        "DATA_DIR": str(run_dir / "data"),
        "HEALTH_HOST": "127.0.0.1",
        # The gateway tells its health at its own port as well; its other one may be any.
        "HEALTH_PORT": "0" if service == "gateway" else str(ports[health_port(service)]),
        "PYTHONUNBUFFERED": "1",  # a log line is shown when it is written
    }


def _own(service: str, ports: Mapping[str, int]) -> dict[str, str]:
    match service:
        case "gateway":
            return {"GATEWAY_HOST": "127.0.0.1", "GATEWAY_PORT": str(ports["GATEWAY_PORT"])}
        case "sender":
            return {
                "SENDER_SMTP_HOST": "127.0.0.1",
                "SENDER_SMTP_PORT": str(ports["SMTP_PORT"]),
                "SENDER_SMTP_TLS": "none",
                "SENDER_FROM": "postrider@localhost.example",
            }
        case _:
            return {}
