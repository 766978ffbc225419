"""The services' output: a file each, and all of them on the terminal with their names."""

import os
import sys
from collections import deque
from pathlib import Path
from typing import TextIO

_COLOURS = (36, 33, 32, 35, 34, 31)  # ECMA-48 foregrounds, told apart on dark and light grounds
_WIDTH = 10  # the longest name is "classifier"
_TAIL = 8  # lines


class Journal:
    """Takes lines by name. The terminal may go away at any time; the files stay."""

    def __init__(self, directory: Path, terminal: TextIO = sys.stdout) -> None:
        self._directory = directory
        self._terminal: TextIO | None = terminal
        self._coloured = terminal.isatty() and "NO_COLOR" not in os.environ
        self._files: dict[str, TextIO] = {}
        self._tails: dict[str, deque[str]] = {}

    def write(self, name: str, line: str) -> None:
        """Add a line of a service to its file and to the terminal."""
        self._file(name).write(line + "\n")
        self._tails[name].append(line)
        self.say(f"{self._prefix(name)} {line}")

    def say(self, text: str) -> None:
        """Show the user something of the stack itself."""
        if self._terminal is None:
            return
        try:
            print(text, file=self._terminal, flush=True)
        except (OSError, ValueError):  # a closed terminal, a pipe whose reader left
            self._terminal = None

    def tail(self, name: str) -> str:
        """Give the last lines of a service."""
        return "\n".join(f"  {line}" for line in self._tails.get(name, ())) or "  (no output)"

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _file(self, name: str) -> TextIO:
        if name not in self._files:
            self._directory.mkdir(parents=True, exist_ok=True)
            path = self._directory / f"{name}.log"
            self._files[name] = path.open("w", encoding="utf-8", buffering=1)
            self._tails[name] = deque(maxlen=_TAIL)
        return self._files[name]

    def _prefix(self, name: str) -> str:
        if not self._coloured:
            return f"{name:<{_WIDTH}} |"
        colour = _COLOURS[list(self._files).index(name) % len(_COLOURS)]
        return f"\x1b[{colour}m{name:<{_WIDTH}} |\x1b[0m"
