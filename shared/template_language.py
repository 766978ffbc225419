"""Pure: the part of Jinja2's language that templates of mails may use, and what they cost."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, Undefined, nodes
from jinja2.exceptions import TemplateRuntimeError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_TAG_CHARS = 16 * 1024  # inside of all {{ }} and {% %} of a template
MAX_NODES = 1000  # of a template: expressions, and texts between them
MAX_DEPTH = 30  # of nodes in nodes
MAX_LOOPS_DEEP = 2  # loops in loops
MAX_SEPARATOR_CHARS = 100  # of a text that a filter is given
FILTERS = (
    *("capitalize", "default", "escape", "first", "join", "last", "length", "lower", "trim"),
    *("truncate", "upper", "urlencode"),
)
TESTS = ("defined", "undefined", "none", "odd", "even")
LOOP = ("index", "index0", "revindex", "revindex0", "first", "last", "length")

URLENCODE_NODES = 20  # it takes as long as so many others with the same text
_TAG = re.compile(r"\{[{%].*?(?:[}%]\}|\Z)", re.DOTALL)
_ITEMS = "postrider_items"  # our filter before a loop and before `join`
_MAX_NAME_CHARS = 100
_NODES: frozenset[type[nodes.Node]] = frozenset(
    {
        *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For),
        *(nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem, nodes.Filter, nodes.Keyword),
        *(nodes.Test, nodes.CondExpr, nodes.And, nodes.Or, nodes.Not, nodes.Compare),
        *(nodes.Operand, nodes.Tuple, nodes.List),
    }
)
# As a writer of templates knows them, where it is not the name of the class.
_NAMES: dict[type, str] = {
    **dict.fromkeys((nodes.Assign, nodes.AssignBlock, nodes.NSRef), "set"),
    **dict.fromkeys((nodes.BinExpr, nodes.UnaryExpr), "arithmetic"),
    **dict.fromkeys((nodes.Call, nodes.CallBlock), "a call"),
    nodes.FromImport: "import",
    nodes.FilterBlock: "filter",
    nodes.Concat: "~",
    nodes.Scope: "autoescape",
    nodes.Slice: "a slice",
}


@dataclass(frozen=True, slots=True)
class LanguageCost:
    """The nodes of a template outside of loops, in a loop, in a loop of a loop."""

    nodes: tuple[int, ...]
    items: int  # of its longest list
    longest: int  # characters of its longest text in a tag
    joins: bool  # so that a text may be as long as all texts together


class _Missing(StrictUndefined):
    """A variable that is not there: a mistake where it is used, but for `default` and `defined`."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        return self._undefined_hint or f"{self._undefined_name} is not among the variables"


class _Environment(ImmutableSandboxedEnvironment):
    def getattr(self, obj: Any, attribute: str) -> Any:  # noqa: ANN401 -- as the library has it
        """Return an entry of an object; no value has attributes of Python's."""
        if isinstance(obj, LoopContext) and attribute in LOOP:
            return getattr(obj, attribute)
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:  # noqa: ANN401 -- as the library has it
        """Return an entry of an object, or an item of a list."""
        if isinstance(obj, Undefined):
            return obj[argument]  # raises
        if isinstance(obj, dict) and isinstance(argument, str) and argument in obj:
            return obj[argument]
        if isinstance(obj, list) and isinstance(argument, int) and 0 <= argument < len(obj):
            return obj[argument]
        return self.undefined(name=str(argument)[:_MAX_NAME_CHARS])


class Language:
    """The language of a text, or of HTML, which `escapes` the variables."""

    def __init__(self, *, escapes: bool) -> None:
        self._environment = _Environment(
            autoescape=escapes,
            undefined=_Missing,
            finalize=_printed,
            keep_trailing_newline=True,
            trim_blocks=True,
            lstrip_blocks=True,
            cache_size=0,
        )
        known = self._environment.filters
        self._environment.globals.clear()
        self._environment.filters = {name: known[name] for name in FILTERS} | {_ITEMS: _items}
        self._environment.tests = {name: self._environment.tests[name] for name in TESTS}

    def compile(self, source: str) -> tuple[Template, LanguageCost]:
        """Return a template and its cost.

        Raises TemplateSyntaxError, and what Python raises for a program that is nested too deeply:
        RecursionError, SyntaxError or ValueError.
        """
        if sum(map(len, _TAG.findall(source))) > MAX_TAG_CHARS:
            raise TemplateSyntaxError(f"must have at most {MAX_TAG_CHARS} characters in tags", 1)
        tree = self._environment.parse(source)
        census = _Census()
        census.count(tree, 0, 0)
        _guard_lists(tree)
        return self._environment.from_string(tree), census.cost


class _Census:
    """Counts the nodes of a template, and refuses those that are no part of the language."""

    def __init__(self) -> None:
        self._nodes = [0] * (MAX_LOOPS_DEEP + 2)
        self._items = self._longest = 0
        self._joins = False

    @property
    def cost(self) -> LanguageCost:
        """The cost of the nodes so far."""
        return LanguageCost(tuple(self._nodes), self._items, self._longest, self._joins)

    def count(self, node: nodes.Node, loops: int, depth: int) -> None:
        """Count a node and those below. Raises TemplateSyntaxError."""
        if type(node) not in _NODES:
            raise TemplateSyntaxError(f"{_name(node)} is no part of the language", node.lineno)
        self._nodes[loops] += 1
        if sum(self._nodes) > MAX_NODES:
            raise TemplateSyntaxError(f"must have at most {MAX_NODES} expressions", node.lineno)
        if depth > MAX_DEPTH:
            raise TemplateSyntaxError("is nested too deeply", node.lineno)
        for child, deeper in self._children(node, loops):
            self.count(child, loops + deeper, depth + 1)

    def _children(self, node: nodes.Node, loops: int) -> Iterator[tuple[nodes.Node, int]]:
        """Yield the nodes below a node, with 1 for those that are repeated."""
        match node:
            case nodes.For():
                yield from _parts_of_loop(node, loops)
                return
            case nodes.Filter():
                self._filter(node, loops)
            case nodes.Test():
                _check_known(node, TESTS, "test")
            case nodes.List() | nodes.Tuple():
                self._items = max(self._items, len(node.items))
            case nodes.Const(value=str() as text):
                self._longest = max(self._longest, len(text))
        yield from ((child, 0) for child in node.iter_child_nodes())

    def _filter(self, node: nodes.Filter, loops: int) -> None:
        _check_known(node, FILTERS, "filter")
        if node.name == "urlencode":
            self._nodes[loops] += URLENCODE_NODES
            _check_first(node)
        if node.name == "join":
            self._joins = True
            self._nodes[loops + 1] += 1
        if node.name != "default":
            _check_given(node)


def _name(node: nodes.Node) -> str:
    kinds = type(node).__mro__
    return next((_NAMES[kind] for kind in kinds if kind in _NAMES), kinds[0].__name__.lower())


def _parts_of_loop(node: nodes.For, loops: int) -> Iterator[tuple[nodes.Node, int]]:
    if node.recursive:
        raise TemplateSyntaxError("a recursive loop is no part of the language", node.lineno)
    if loops == MAX_LOOPS_DEEP:
        message = f"must have at most {MAX_LOOPS_DEEP} loops in one another"
        raise TemplateSyntaxError(message, node.lineno)
    once = (node.iter, *node.else_)
    repeated = (node.target, *node.body, *((node.test,) if node.test else ()))
    yield from ((child, 0) for child in once)
    yield from ((child, 1) for child in repeated)


def _check_known(node: nodes.Filter | nodes.Test, names: tuple[str, ...], kind: str) -> None:
    if node.name not in names or node.dyn_args or node.dyn_kwargs:
        listed = ", ".join(names)
        raise TemplateSyntaxError(f"the only {kind}s are {listed}", node.lineno)


def _check_first(node: nodes.Filter) -> None:
    """Refuse `urlencode` after another filter: each one may make a text several times as long."""
    above = cast("nodes.Node", node.node)
    below = [*above.find_all(nodes.Filter), *([above] if isinstance(above, nodes.Filter) else [])]
    if any(each.name != "default" for each in below):
        raise TemplateSyntaxError(f"{node.name} must be the first filter", node.lineno)


def _check_given(node: nodes.Filter) -> None:
    """Refuse a separator from the variables: it could make a text of the square of their size."""
    for given in (*node.args, *(each.value for each in node.kwargs)):
        if not isinstance(given, nodes.Const) or len(str(given.value)) > MAX_SEPARATOR_CHARS:
            message = f"what {node.name} is given must be a short text or a number"
            raise TemplateSyntaxError(message, node.lineno)


def _guard_lists(tree: nodes.Template) -> None:
    """Check at each loop and `join` that there is a list to go through."""
    for loop in tree.find_all(nodes.For):
        loop.iter = _list_only(loop.iter)
    for each in [*tree.find_all(nodes.Filter)]:
        if each.name == "join" and each.node is not None:
            each.node = _list_only(each.node)


def _list_only(node: nodes.Node) -> nodes.Filter:
    return nodes.Filter(cast("nodes.Expr", node), _ITEMS, [], [], None, None, lineno=node.lineno)


def _items(value: object) -> object:
    """Return a list as it is; a text would be gone through character by character."""
    if isinstance(value, list | tuple | Undefined):
        return value
    raise TemplateRuntimeError("a loop and `join` need a list")


def _printed(value: object) -> object:
    """Return a value as the mail shows it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float | Undefined):
        return value
    raise TemplateRuntimeError("only texts and numbers can be shown; a list needs a loop")


TEXT, HTML = Language(escapes=False), Language(escapes=True)
