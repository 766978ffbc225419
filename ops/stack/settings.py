"""Where the stack listens and keeps its files, from the environment."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ops import ports
from ops.broker import Ports
from ops.stack.errors import StackError
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


@dataclass(frozen=True)
class Settings:
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
    def broker_ports(self) -> Ports:
        """The ports of a broker of our own."""
        return Ports(
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
