"""What each service of the stack finds in its environment. Pure."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

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


def health_port(service: str) -> str:
    """Name the variable of the port that answers for a service's health."""
    return "GATEWAY_PORT" if service == "gateway" else f"{service.upper()}_HEALTH_PORT"


def of_service(
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


def filed(service: str, tree: Mapping[str, object]) -> frozenset[str]:
    """Name the variables of what a file of settings tells a service."""
    section = tree.get(service)
    words = section if isinstance(section, Mapping) else {}
    own = (f"{service}_{word}" for word in words)
    return frozenset(name.upper() for name in (*tree, *words, *own))


def give_way(
    variables: Mapping[str, str], environ: Mapping[str, str], told: Collection[str]
) -> dict[str, str]:
    """Take out what the stack suggests and a file tells otherwise, since the environment would win.

    What the user says in the environment stays. Relays in a list are in the place of the one.
    """
    relay = _RELAY if "SENDER_RELAYS" in {*told, *environ} else frozenset[str]()
    otherwise = (_SUGGESTED.intersection(told) | relay) - environ.keys()
    return {name: text for name, text in variables.items() if name not in otherwise}


def of_simulator(
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
