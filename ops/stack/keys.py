"""The secrets a stack makes for itself once and finds again."""

import json
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from ops import private_file
from ops.stack.errors import StackError
from shared.config.private import check_private

_BYTES = 32  # 256 bits, what HS256 and AES-256 want


class Keys:
    """Secrets by name in a file only its owner may read; a name asked for first is made.

    A variable of the environment with a secret's name wins over the file. Raises StackError for a
    file that is damaged, or that others can read.
    """

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ
        self._stored = _read(path)

    def get(self, name: str) -> str:
        """Give a secret, 32 random bytes as hex when it is new."""
        if given := self._environ.get(name):
            return given
        if name not in self._stored:
            self.put(name, secrets.token_hex(_BYTES))
        return self._stored[name]

    def find(self, name: str) -> str | None:
        """Give a secret that was put there before, if any."""
        return self._stored.get(name)

    def put(self, name: str, value: str) -> None:
        """Keep a secret."""
        self._stored[name] = value
        private_file.write(self._path, json.dumps(self._stored, indent=2) + "\n")

    def passwords(self, names: Iterable[str]) -> dict[str, str]:
        """Give the broker passwords of some users."""
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
