"""The settings of the stack, and the environment of each of its processes."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ops import ports
from ops.broker import BrokerPorts
from shared.config.url import check_broker, check_database, check_management
from shared.errors import ConfigError

_TREE = Path(__file__).parent.parent.parent
# The defaults by variable. RabbitMQ's command line tools listen in 35672-35682, and from 32768 on
# Linux takes the ports of outgoing connections.
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
    "LEDGER_HEALTH_PORT": 8094,
    "SCHEDULER_HEALTH_PORT": 8095,
    "INBOUND_HEALTH_PORT": 8096,
    "INBOUND_SUBMISSION_PORT": 2587,
    "INBOUND_SUBMISSION_TLS_PORT": 2465,
    "WEBHOOKS_HEALTH_PORT": 8097,
    "INBOUND_REPORT_PORT": 2526,
    "CONSOLE_PORT": 8090,
}
_MAX_PORT = 65535
_URLS = {
    "AMQP_URL": check_broker,
    "DATABASE_URL": check_database,
    "RABBITMQ_MANAGEMENT_URL": check_management,
}
# In the order of their start; the end is in reverse.
SERVICES = (
    *("ledger", "classifier", "otp", "sender", "scheduler", "inbound", "webhooks", "console"),
    "gateway",
)
SECRETS = {
    "gateway": ("GATEWAY_ADMIN_TOKEN", "GATEWAY_KEY_SECRET", "LINK_KEY"),
    "otp": ("OTP_KEY", "SEALING_KEY"),
    "sender": ("BOUNCE_KEY", "SEALING_KEY", "SUPPRESSION_KEY"),
    "classifier": (),
    "ledger": ("SUPPRESSION_KEY",),
    "scheduler": ("LINK_KEY",),
    "inbound": ("BOUNCE_KEY",),
    "webhooks": ("WEBHOOK_KEY",),
    "console": ("CONSOLE_SESSION_KEY", "CONSOLE_TOKEN"),
}
_WITH_HTTP = ("gateway", "console")  # whose own port also answers health checks
_ALL_SECRETS = frozenset(name for names in SECRETS.values() for name in names)
_RELAY = frozenset({"SENDER_SMTP_HOST", "SENDER_SMTP_PORT", "SENDER_SMTP_TLS"})
# The variables that a file of settings may override. The tokens are not among them, since the stack
# uses or prints them; nor are the ports where it checks a service.
_OVERRIDABLE = {
    *("SENDER_FROM", "INBOUND_REPORT_DOMAIN"),
    *("SCHEDULER_PUBLIC_URL", "WEBHOOKS_ALLOW_NETWORKS", "WEBHOOKS_ALLOW_HTTP"),
    *_RELAY,
    *_ALL_SECRETS,
} - {"GATEWAY_ADMIN_TOKEN", "CONSOLE_TOKEN"}


class StackError(Exception):
    """The stack cannot go on. The message is one line that says what to do."""


@dataclass(frozen=True)
class StackSettings:
    """Ports by their variable, the folder of all files, and the given broker, if any."""

    ports: Mapping[str, int]
    run_dir: Path
    amqp_url: str | None
    management_url: str | None  # of a given broker
    config: Path | None = None  # the services' file

    @classmethod
    def load(cls, environ: Mapping[str, str], config: str | None = None) -> Self:
        """Parse the environment; `config` is a file with settings of the services.

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
        """The ports of a private broker."""
        return BrokerPorts(
            amqp=self.ports["RABBITMQ_PORT"],
            management=self.ports["RABBITMQ_MANAGEMENT_PORT"],
            distribution=self.ports["RABBITMQ_DIST_PORT"],
            epmd=self.ports["RABBITMQ_EPMD_PORT"],
        )

    def needed_ports(self) -> dict[str, int]:
        """Return the ports that must be free; a given broker has its own."""
        own = self.amqp_url is None
        return {name: port for name, port in self.ports.items() if own or "RABBITMQ" not in name}


def check_free(needed: Mapping[str, int]) -> None:
    """Raise StackError for the first taken port, with its variable and its holder."""
    for name, port in needed.items():
        if not ports.is_free(port):
            by = ports.holder(port) or "another program"
            raise StackError(
                f"port {port} is taken by {by}: end that or set {name} to another port"
            )


def _port_mistakes(chosen: Mapping[str, str]) -> Iterator[str]:
    owners: dict[int, str] = {}
    for name, text in chosen.items():
        if not text.isdecimal() or not 0 < int(text) <= _MAX_PORT:
            yield f"{name}: must be a number from 1 to {_MAX_PORT}"
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
    """Return the variable with the port of a service's health check."""
    return f"{service.upper()}_PORT" if service in _WITH_HTTP else f"{service.upper()}_HEALTH_PORT"


def service_environment(
    service: str,
    environ: Mapping[str, str],
    ports: Mapping[str, int],
    run_dir: Path,
    secret: Callable[[str], str],
) -> dict[str, str]:
    """Return a service's environment, without AMQP_URL. Pure.

    It has the user's variables except those of other services, and only the secrets that the
    service needs. A variable with the service's prefix takes precedence.
    """
    prefix, given = f"{service.upper()}_", _inherited(service, environ)
    return {
        **given,
        **_common(service, ports, run_dir),
        **_own(service, ports, run_dir),
        **{name: value for name, value in given.items() if name.startswith(prefix)},
        **{name: secret(name) for name in SECRETS[service]},
    }


def file_variables(service: str, tree: Mapping[str, object]) -> frozenset[str]:
    """Return the variables that a file of settings sets for a service."""
    section = tree.get(service)
    words = section if isinstance(section, Mapping) else {}
    own = (f"{service}_{word}" for word in words)
    return frozenset(name.upper() for name in (*tree, *words, *own))


def prefer_file(
    variables: Mapping[str, str], environ: Mapping[str, str], filed: Collection[str]
) -> dict[str, str]:
    """Remove the defaults of the stack that a file sets, since the environment takes precedence.

    The user's own variables stay. A list of relays replaces the single one.
    """
    relay = _RELAY if "SENDER_RELAYS" in {*filed, *environ} else frozenset[str]()
    otherwise = (_OVERRIDABLE.intersection(filed) | relay) - environ.keys()
    return {name: text for name, text in variables.items() if name not in otherwise}


def simulator_environment(
    environ: Mapping[str, str], ports: Mapping[str, int], run_dir: Path
) -> dict[str, str]:
    """Return the simulator's environment."""
    return {
        **_inherited("simulator", environ),
        "PYTHONUNBUFFERED": "1",
        "SMTP_PORT": str(ports["SMTP_PORT"]),
        "MAILBOX_PORT": str(ports["MAILBOX_PORT"]),
        "MAILBOX_DATA": str(run_dir / "data" / "mailbox"),
    }


def _inherited(service: str, environ: Mapping[str, str]) -> dict[str, str]:
    others = tuple(f"{name.upper()}_" for name in SERVICES if name != service)
    # The stack's variable of a health port is no setting of a service without an HTTP port.
    ports = set[str]() if service in _WITH_HTTP else {health_port(service)}
    hidden = {*_ALL_SECRETS, "AMQP_URL", *ports}
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(others) and name not in hidden
    }


def _common(service: str, ports: Mapping[str, int], run_dir: Path) -> dict[str, str]:
    return {
        "DATA_DIR": str(run_dir / "data"),
        "HEALTH_HOST": "127.0.0.1",
        # Where a service has a port for HTTP, the health check is there too.
        "HEALTH_PORT": "0" if service in _WITH_HTTP else str(ports[health_port(service)]),
        "PYTHONUNBUFFERED": "1",  # each log line is shown at once
    }


def certificate(run_dir: Path) -> tuple[Path, Path]:
    """Return the files of the stack's own certificate and of its key."""
    return run_dir / "certificate.pem", run_dir / "certificate-key.pem"


def _own(service: str, ports: Mapping[str, int], run_dir: Path) -> dict[str, str]:
    match service:
        case "gateway" | "console":
            name = health_port(service)
            return {f"{service.upper()}_HOST": "127.0.0.1", name: str(ports[name])}
        case "sender":
            return {
                "SENDER_SMTP_HOST": "127.0.0.1",
                "SENDER_SMTP_PORT": str(ports["SMTP_PORT"]),
                "SENDER_SMTP_TLS": "none",
                "SENDER_FROM": "postrider@localhost.example",
            }
        case "scheduler":
            return {"SCHEDULER_PUBLIC_URL": f"http://127.0.0.1:{ports['GATEWAY_PORT']}"}
        case "inbound":
            own, key = certificate(run_dir)
            return {
                **{
                    name: str(port)
                    for name, port in ports.items()
                    if name.startswith("INBOUND_") and "HEALTH" not in name
                },
                "INBOUND_SUBMISSION_CERTIFICATE": str(own),
                "INBOUND_SUBMISSION_CERTIFICATE_KEY": str(key),
                "INBOUND_REPORT_CERTIFICATE": str(own),
                "INBOUND_REPORT_CERTIFICATE_KEY": str(key),
                "INBOUND_REPORT_DOMAIN": "bounce.localhost.example",
                "INBOUND_REPORT_HOST": "127.0.0.1",
            }
        case "webhooks":  # programs of this machine, without certificates
            networks = '["127.0.0.0/8", "::1/128"]'
            return {"WEBHOOKS_ALLOW_NETWORKS": networks, "WEBHOOKS_ALLOW_HTTP": "true"}
        case _:
            return {}
