"""The source files of the tree, as `ast` sees them: what they import and what they refer to."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parent.parent
PRODUCT = ("shared", "services", "ops", "benchmarks")


@dataclass(frozen=True)
class Module:
    """One file; `path` is relative to the root, with slashes."""

    path: str
    text: str = field(repr=False)

    @cached_property
    def tree(self) -> ast.Module:
        """The file, parsed."""
        return ast.parse(self.text, self.path)

    @property
    def lines(self) -> int:
        """How long it is."""
        return self.text.count("\n")

    @property
    def stem(self) -> str:
        """Its name without folder and ending."""
        return Path(self.path).stem

    @property
    def package(self) -> tuple[str, ...]:
        """The names of the folders it is in."""
        return Path(self.path).parent.parts

    @cached_property
    def imports(self) -> list[tuple[int, str]]:
        """Line and full dotted name of everything imported, wherever in the file."""
        return [
            (node.lineno, name)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name, _ in self._names(node)
        ]

    @cached_property
    def references(self) -> list[tuple[int, str]]:
        """Line and full dotted name of every use of something imported, however it was renamed."""
        names = dict(self._bound())
        return [
            (node.lineno, ".".join((names[first], *rest)))
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Name | ast.Attribute)
            for first, *rest in [_dotted(node).split(".")]
            if first in names
        ]

    def _bound(self) -> Iterator[tuple[str, str]]:
        """Yield the local name and the full dotted name of everything imported."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for name, local in self._names(node):
                    if local:
                        yield local, name
                    else:  # `import a.b` binds `a`
                        yield (name.partition(".")[0],) * 2

    def _names(self, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str | None]]:
        origin = self._origin(node) if isinstance(node, ast.ImportFrom) else ()
        for alias in node.names:
            local = alias.asname or (alias.name if origin else None)
            yield ".".join((*origin, alias.name)), local

    def _origin(self, node: ast.ImportFrom) -> tuple[str, ...]:
        above = self.package[: len(self.package) - node.level + 1] if node.level else ()
        return (*above, *(node.module.split(".") if node.module else ()))


def _dotted(node: ast.AST) -> str:
    """Return `a.b.c` for a chain of attributes of a name, else an empty text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def is_part(name: str, of: str) -> bool:
    """Whether a dotted name is `of` or something in it."""
    return name == of or name.startswith(f"{of}.")


def read(*folders: str) -> list[Module]:
    """Read all modules under some folders of the tree."""
    return [
        Module(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
