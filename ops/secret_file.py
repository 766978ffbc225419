"""Secrets in a file that its owner alone can read."""

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from ops.stack.settings import StackError
from shared.config import check_private

_SECRET_BYTES = 32  # 256 bits, for HS256 and AES-256


def write(path: Path, text: str) -> None:
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
        write(self._path, json.dumps(self._stored, indent=2) + "\n")

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
