"""Secrets in a file that its owner alone can read, and those of the containers of compose.yaml.

`python -m ops.credentials FOLDER` makes the second, once. Each container reads its own from a
volume that no other container mounts, a file for each variable.
"""

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ops.stack.settings import SECRETS, StackError
from shared.config import check_private
from shared.topology import Owner

ADMINISTRATOR = "postrider"  # of the broker and of the database
_SECRET_BYTES = 32  # 256 bits, for HS256 and AES-256


def write_private(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    temporary.write_text(text)
    temporary.replace(path)


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


def of_containers(secret: Callable[[str], str]) -> Mapping[str, Mapping[str, str]]:
    """Return the variables of each container; `secret` returns a URL-safe secret by name. Pure."""
    broker, database = secret("RABBITMQ_ADMIN_PASSWORD"), secret("POSTGRES_ADMIN_PASSWORD")
    brokers = {owner: secret(f"{owner.upper()}_AMQP_PASSWORD") for owner in Owner}
    databases = {owner: secret(f"{owner.upper()}_DATABASE_PASSWORD") for owner in Owner}
    return {
        "rabbitmq": {"RABBITMQ_DEFAULT_PASS": broker},
        "postgres": {"POSTGRES_PASSWORD": database},
        "topology": {
            "AMQP_URL": f"amqp://{ADMINISTRATOR}:{broker}@rabbitmq/",
            **{f"{owner.upper()}_AMQP_PASSWORD": brokers[owner] for owner in Owner},
        },
        "roles": {
            "PGPASSWORD": database,
            **{f"{owner.upper()}_DATABASE_PASSWORD": databases[owner] for owner in Owner},
        },
        **{
            owner.value: {
                "AMQP_URL": f"amqp://{owner}:{brokers[owner]}@rabbitmq/",
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

    Raises StackError when the file that keeps the secrets is damaged.
    """
    keys = SecretFile(root / "keys" / "keys.json", environ)
    for container, variables in of_containers(keys.get).items():
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
