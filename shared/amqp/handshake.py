"""Pure: what is said when a connection opens (AMQP 0-9-1, section 2.2.4)."""

import ssl
from urllib.parse import unquote

from pamqp import commands
from pamqp.common import FieldTable
from yarl import URL

from shared.amqp import wire

PLAIN_PORT, TLS_PORT = 5672, 5671
MAX_CHANNELS = 65_535  # their numbers have 16 bits, and 0 is the connection's own
ACCESS_REFUSED = 403  # the broker's word for a wrong login
NOT_ALLOWED = 530  # and for a virtual host that is not there, or not for this user
# What this client understands beyond the protocol of 2008.
_CAPABILITIES: FieldTable = {
    "authentication_failure_close": True,  # a wrong login is told, not hung up on
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}

DEFAULT_USER = "guest"  # and its password: RabbitMQ's own, which it takes over loopback alone


def start(url: URL, name: str) -> commands.Connection.StartOk:
    """Log in; `name` is shown in the broker's list of connections."""
    return commands.Connection.StartOk(
        client_properties={
            "product": "Postrider",
            "connection_name": name,
            "capabilities": _CAPABILITIES,
        },
        mechanism="PLAIN",
        response="\0{}\0{}".format(
            *(DEFAULT_USER if each is None else each for each in (url.user, url.password))
        ),
    )


def tune(offered: commands.Connection.Tune, heartbeat: int) -> commands.Connection.TuneOk:
    """Take the broker's limits, or ours where it has none or wider ones.

    `heartbeat` is our own interval in seconds.
    """
    return commands.Connection.TuneOk(
        offered.channel_max or MAX_CHANNELS,
        min(offered.frame_max or wire.LARGEST_FRAME, wire.LARGEST_FRAME),
        heartbeat,
    )


def open_(url: URL) -> commands.Connection.Open:
    """Ask for the virtual host that the path names; `/` if it names none."""
    return commands.Connection.Open(virtual_host=unquote(url.raw_path.removeprefix("/")) or "/")


def port(url: URL) -> int:
    """Give the port, the usual one if none is named."""
    return url.port or (TLS_PORT if url.scheme == "amqps" else PLAIN_PORT)


def tls(url: URL) -> ssl.SSLContext | None:
    """Return the context of an amqps address; `cafile` names a file of trusted certificates.

    Name and certificate are always checked. Raises OSError when a file cannot be read or used,
    ValueError for a key with a password: OpenSSL would ask for it on the terminal.
    """
    if url.scheme != "amqps":
        return None
    context = ssl.create_default_context(cafile=url.query.get("cafile"))
    certificate = url.query.get("certfile")
    if certificate:
        context.load_cert_chain(certificate, url.query.get("keyfile"), password=_no_password)
    return context


def _no_password() -> str:
    raise ValueError("a key with a password cannot be used")
