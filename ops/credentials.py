"""`python -m ops.credentials`: the credentials of the containers of compose.yaml, made once.

Each container reads its own from a volume that no other container mounts, a file for each
variable.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ops.secret_file import SecretFile
from ops.stack.settings import SECRETS, StackError
from shared.topology import RUNNING

ADMINISTRATOR = "postrider"  # of the broker and of the database


def of_containers(secret: Callable[[str], str]) -> Mapping[str, Mapping[str, str]]:
    """Return the variables of each container; `secret` returns a URL-safe secret by name. Pure."""
    broker, database = secret("RABBITMQ_ADMIN_PASSWORD"), secret("POSTGRES_ADMIN_PASSWORD")
    brokers = {owner: secret(f"{owner.upper()}_AMQP_PASSWORD") for owner in RUNNING}
    databases = {owner: secret(f"{owner.upper()}_DATABASE_PASSWORD") for owner in RUNNING}
    return {
        "rabbitmq": {"RABBITMQ_DEFAULT_PASS": broker},
        "postgres": {"POSTGRES_PASSWORD": database},
        "topology": {
            "AMQP_URL": _amqp_url(ADMINISTRATOR, broker),
            **{f"{owner.upper()}_AMQP_PASSWORD": brokers[owner] for owner in RUNNING},
        },
        "roles": {
            "PGPASSWORD": database,
            **{f"{owner.upper()}_DATABASE_PASSWORD": databases[owner] for owner in RUNNING},
        },
        **{
            owner.value: {
                "AMQP_URL": _amqp_url(owner, brokers[owner]),
                "DATABASE_URL": _database_url(owner, databases[owner]),
                **{name: secret(name) for name in SECRETS[owner]},
            }
            for owner in RUNNING
        },
    }


def _amqp_url(user: str, password: str) -> str:
    return f"amqp://{user}:{password}@rabbitmq/"


def _database_url(user: str, password: str) -> str:
    return f"postgresql+asyncpg://{user}:{password}@postgres/postrider"


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
