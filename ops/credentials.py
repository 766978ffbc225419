"""Secrets in a file that its owner alone can read, and those of the containers of compose.yaml.

`python -m ops.credentials FOLDER` makes the second, once. Each container reads its own from a
volume that no other container mounts, a file for each variable.
"""

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ops.stack.settings import SECRETS, StackError
from shared.config import check_private
from shared.topology import Owner

ADMINISTRATOR = "postrider"  # of the broker and of the database
_CERTIFICATE_DAYS = 365
_SECRET_BYTES = 32  # 256 bits, for HS256 and AES-256


def write_private(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    temporary.write_text(text)
    temporary.replace(path)


def write_certificate(certificate: Path, key: Path, now: datetime) -> None:
    """Write a certificate for this machine that signs itself, unless there is one that is valid."""
    if certificate.exists() and key.exists():
        known = x509.load_pem_x509_certificate(certificate.read_bytes())
        if known.not_valid_after_utc > now + timedelta(days=1):
            return
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, SHA256())
    )
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(key, private.private_bytes(*form).decode())
    write_private(certificate, signed.public_bytes(Encoding.PEM).decode())


class SecretFile:
    """Secrets by name; one that is not in the file yet is made.

    A variable of the environment with a secret's name takes precedence over the file. Raises
    StackError for a file that is damaged or that other users can read.
    """

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ
        self._stored = _read(path)

    def get(self, name: str) -> str:
        """Return a secret, 32 random bytes as hex when it is new."""
        if given := self._environ.get(name):
            return given
        if name not in self._stored:
            self.put(name, secrets.token_hex(_SECRET_BYTES))
        return self._stored[name]

    def find(self, name: str) -> str | None:
        """Return a secret that is in the file, None when it is not."""
        return self._stored.get(name)

    def put(self, name: str, value: str) -> None:
        """Write a secret to the file."""
        self._stored[name] = value
        write_private(self._path, json.dumps(self._stored, indent=2) + "\n")

    def passwords(self, names: Iterable[str]) -> dict[str, str]:
        """Return the broker passwords of some users."""
        return {name: self.get(f"RABBITMQ_PASSWORD_{name.upper()}") for name in names}


def _read(path: Path) -> dict[str, str]:
    try:
        text = check_private(path).read_text()
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise StackError(str(error)) from None
    try:
        return dict(json.loads(text))
    except ValueError as error:
        raise StackError(f"{path} is damaged: delete it, new secrets will be made") from error


def of_containers(
    secret: Callable[[str], str], nodes: str = "rabbitmq"
) -> Mapping[str, Mapping[str, str]]:
    """Return the variables of each container; `secret` returns a URL-safe secret by name. Pure.

    `nodes` are the hosts of RabbitMQ, with commas between them.
    """
    broker, database = secret("RABBITMQ_ADMIN_PASSWORD"), secret("POSTGRES_ADMIN_PASSWORD")
    brokers = {owner: secret(f"{owner.upper()}_AMQP_PASSWORD") for owner in Owner}
    databases = {owner: secret(f"{owner.upper()}_DATABASE_PASSWORD") for owner in Owner}
    return {
        "rabbitmq": {
            "RABBITMQ_DEFAULT_PASS": broker,
            "ERLANG_COOKIE": secret("ERLANG_COOKIE"),  # the nodes of a cluster share it
        },
        "postgres": {"POSTGRES_PASSWORD": database},
        "grafana": {"GRAFANA_ADMIN_PASSWORD": secret("GRAFANA_ADMIN_PASSWORD")},
        "topology": {
            "AMQP_URL": f"amqp://{ADMINISTRATOR}:{broker}@{nodes}/",
            **{f"{owner.upper()}_AMQP_PASSWORD": brokers[owner] for owner in Owner},
        },
        "roles": {
            "PGPASSWORD": database,
            **{f"{owner.upper()}_DATABASE_PASSWORD": databases[owner] for owner in Owner},
        },
        **{
            owner.value: {
                "AMQP_URL": f"amqp://{owner}:{brokers[owner]}@{nodes}/",
                "DATABASE_URL": (
                    f"postgresql+asyncpg://{owner}:{databases[owner]}@postgres/postrider"
                ),
                **{name: secret(name) for name in SECRETS[owner]},
            }
            for owner in Owner
        },
    }


def write(root: Path, environ: Mapping[str, str]) -> None:
    """Write a folder for each container under `root`; a secret in `environ` takes precedence.

    RABBITMQ_HOSTS names the nodes of a cluster, with commas between them. Raises StackError when
    the file that keeps the secrets is damaged.
    """
    keys = SecretFile(root / "keys" / "keys.json", environ)
    nodes = environ.get("RABBITMQ_HOSTS") or "rabbitmq"
    for container, variables in of_containers(keys.get, nodes).items():
        folder = root / container
        folder.mkdir(exist_ok=True)
        for name, value in variables.items():
            # Readable by any user: no other container mounts the folder.
            (folder / name).write_text(value)


def main() -> int:
    """Write them under the folder in the first argument."""
    if len(sys.argv) != 2:  # noqa: PLR2004 -- the program and the folder
        print("usage: python -m ops.credentials FOLDER", file=sys.stderr)
        return 2
    try:
        write(Path(sys.argv[1]), os.environ)
    except (StackError, OSError) as error:
        print(f"credentials: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
