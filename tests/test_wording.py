"""The rules of words: how docstrings begin, what a class name means, what a code is called."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import pytest

from tests.modules import PRODUCT, ROOT, Module, read

# A docstring begins with the verb of the thing, or names it. These words hide it.
VAGUE_WORDS = re.compile(
    r"(?:giv(?:e|es|en|ing)|gave|tell(?:s|ing)?|told|let(?:s|ting)?|tak(?:e|es|en|ing)|took"
    r"|ha(?:ve|s|d|ving)|sa(?:y|ys|id|ying)|who(?:ever|m|se)?|what(?:ever)?)\b",
    re.IGNORECASE,
)

# Class names that stand for several things, and why each of them may.
SHARED_CLASS_NAMES: Mapping[str, str] = {}

# What no text of the product calls a code that comes by email.
CLAIMS = re.compile(
    r"\b(?:2|two|multi)[- ]?fa\b|\b(?:two|multi)[- ]factor|\bmfa\b|\bnist[- ]compliant",
    re.IGNORECASE,
)
TEXTS = {".py", ".md", ".toml", ".json", ".yaml", ".html", ".txt", ".js", ".css", ".sql"}


def vague_docstrings(module: Module) -> Iterator[str]:
    """Begin a docstring with the verb of the thing, or with a noun for what it is."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node) or ""
        if VAGUE_WORDS.match(text):
            yield f"{node.body[0].lineno}: {text.splitlines()[0]!r} begins with a vague word"


def class_homes(modules: Iterable[Module]) -> Mapping[str, list[str]]:
    """Return the files of each class name, one for each class of that name."""
    homes = defaultdict(list)
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(module.path)
    return homes


def repeated_classes(modules: Iterable[Module]) -> Mapping[str, list[str]]:
    """Return the class names that stand for several things, with their files."""
    return {name: paths for name, paths in class_homes(modules).items() if len(paths) > 1}


def test_docstrings_begin_plainly() -> None:
    """A docstring never begins with Give, Tell, Let, Take, Have, Say, Who or What."""
    problems = [
        f"{module.path}:{problem}"
        for module in read(*PRODUCT, "tests")
        for problem in vague_docstrings(module)
    ]

    assert not problems, "\n".join(problems)


def test_a_class_name_means_one_thing() -> None:
    """A class name stands for one thing in the whole product."""
    repeated = repeated_classes(read(*PRODUCT))
    allowed = set(SHARED_CLASS_NAMES)
    problems = [f"{name}: {paths}" for name, paths in repeated.items() if name not in allowed]

    assert not problems, "\n".join(problems)


def test_no_shared_class_name_is_out_of_date() -> None:
    """An exception that is not needed any more hides the next mistake."""
    assert SHARED_CLASS_NAMES.keys() <= repeated_classes(read(*PRODUCT)).keys()
    assert len(SHARED_CLASS_NAMES) <= 10


@pytest.mark.parametrize(
    "text",
    [
        '"""Give the time."""',
        'class Clock:\n    """Tells the time."""',
        'def f():\n    """Let others go first."""',
        'async def f():\n    """Taken from the queue."""',
        'class Clock:\n    def now(self):\n        """Says when."""',
        '"""What the clock shows."""',
        'def test():\n    """Whoever waits is answered."""',
    ],
)
def test_vague_docstrings_are_found(text: str) -> None:
    """A rule that finds nothing in what it forbids protects nothing."""
    assert list(vague_docstrings(Module("shared/x.py", text)))


@pytest.mark.parametrize(
    "text",
    ['"""Letters of the alphabet."""', '"""Return what was given."""', "def f(): give = 'Give it'"],
)
def test_plain_docstrings_are_not_found(text: str) -> None:
    """A rule finds no fault with what it allows."""
    assert not list(vague_docstrings(Module("shared/x.py", text)))


def test_repeated_class_names_are_found() -> None:
    """Classes of one name are found across files and within one, nested classes too."""
    modules = [
        Module("shared/x.py", "class Plan: ...\nclass Once: ..."),
        Module("ops/x.py", "def f():\n    class Plan: ..."),
        Module("ops/y.py", "class Twice:\n    class Twice: ..."),
    ]

    assert repeated_classes(modules) == {
        "Plan": ["shared/x.py", "ops/x.py"],
        "Twice": ["ops/y.py", "ops/y.py"],
    }


def test_codes_are_called_what_they_are() -> None:
    """A code confirms an address or signs in; email proves no device (NIST SP 800-63B 5.1.3.1)."""
    folders = [path for name in (*PRODUCT, "docs") for path in (ROOT / name).rglob("*")]
    pages = [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("*.yaml")]
    texts = [path for path in (*folders, *pages) if path.suffix in TEXTS]
    claims = [path for path in texts if CLAIMS.search(path.read_text(encoding="utf-8"))]

    assert len(texts) > 200
    assert claims == []
