"""Pure: the subject, text and HTML of a mail as templates with variables, in Jinja2's language.

A client writes the template and the event loop renders it, so its cost is bounded before it runs:
it chooses and repeats, and computes nothing. It has no calls, macros, assignments, arithmetic or
other templates (`shared/template_language.py`). HTML is escaped. A missing variable is a mistake.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import TracebackType
from typing import Any

from jinja2 import Template, TemplateSyntaxError
from jinja2.exceptions import TemplateRuntimeError

from shared.contracts import address
from shared.contracts.fields import MAX_SUBJECT_CHARS
from shared.template_language import HTML, TEXT, Language, LanguageCost

MAX_TEMPLATE_CHARS = 128 * 1024  # of the text, and of the HTML
MAX_RENDERED_CHARS = 256 * 1024  # the same
# Of a mail. A step takes up to half a microsecond with texts of CHARS_A_STEP.
MAX_STEPS = 100_000
CHARS_A_STEP = 100
MAX_VARIABLES = 1000  # values of one mail, those in lists and objects too
MAX_VARIABLE_CHARS = 32 * 1024  # of all texts and names of one mail
MAX_LIST_ITEMS = 100
MAX_VARIABLES_DEEP = 5  # lists and objects in one another
MAX_REASON_CHARS = 200
TOO_LARGE = 2.0**63

Variables = Mapping[str, Any]  # texts, numbers, booleans, lists and objects, as JSON has them


class TemplateMistake(ValueError):
    """A template cannot be used: its part, the line if there is one, and the reason."""

    def __init__(self, part: str, reason: str, line: int | None = None) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.part = part


class VariableMistake(ValueError):
    """The variables of a mail do not fit its template; the text has no value of them."""


@dataclass(frozen=True, slots=True)
class RenderedMail:
    """The subject and the content of a mail, which no repr shows."""

    subject: str
    text: str | None = field(repr=False)
    html: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class VariableSizes:
    """The sizes of a mail's variables, on which the cost of its rendering depends."""

    items: int  # of the longest list
    longest: int  # characters of the longest text
    chars: int  # of all texts


class MailTemplate:
    """The templates of a mail. Raises TemplateMistake."""

    def __init__(self, subject: str, text: str | None, html: str | None) -> None:
        self._subject = _TemplatePart("subject", subject, TEXT, MAX_SUBJECT_CHARS)
        self._text = None if text is None else _TemplatePart("text", text, TEXT)
        self._html = None if html is None else _TemplatePart("html", html, HTML)
        self._parts = [each for each in (self._subject, self._text, self._html) if each]

    def steps(self, variables: Variables) -> int:
        """Return how many steps the rendering takes at most, however it ends.

        Raises VariableMistake for variables that are never rendered.
        """
        sizes = measure(variables)
        steps = sum(_steps(part.cost, sizes) for part in self._parts)
        if steps > MAX_STEPS:
            raise VariableMistake("the template has too many loops for variables of this size")
        return steps

    def render(self, variables: Variables) -> RenderedMail:
        """Return the mail with its variables, after some 50 ms at most.

        The same variables always make the same mail. Raises VariableMistake.
        """
        self.steps(variables)
        subject = self._subject.render(variables)
        try:
            address.check_header_text(subject)
        except ValueError as error:
            raise VariableMistake(f"the subject {error}") from None
        return RenderedMail(
            subject,
            text=None if self._text is None else self._text.render(variables),
            html=None if self._html is None else self._html.render(variables),
        )


class _TemplatePart:
    """One part of a mail's template."""

    def __init__(
        self, name: str, source: str, language: Language, max_chars: int = MAX_RENDERED_CHARS
    ) -> None:
        self._name = name
        self._max_chars = max_chars
        try:
            self._template, self.cost = language.compile(source)
        except TemplateSyntaxError as error:
            reason = (error.message or "cannot be read")[:MAX_REASON_CHARS]
            raise TemplateMistake(name, reason, error.lineno) from None
        except (RecursionError, SyntaxError, ValueError):  # of Python, which the template becomes
            raise TemplateMistake(name, "is nested too deeply, or has too large numbers") from None

    def render(self, variables: Variables) -> str:
        """Return the part with its variables. Raises VariableMistake."""
        context = self._template.new_context(dict(variables))
        try:
            return "".join(self._bounded(self._template.root_render_func(context)))
        except TemplateRuntimeError as error:
            raise self._mistake(error, error.message or "") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise self._mistake(error, "a variable has the wrong type") from None

    def _bounded(self, pieces: Iterator[str]) -> Iterator[str]:
        size = 0
        for piece in pieces:
            size += len(piece)
            if size > self._max_chars:
                raise TemplateRuntimeError(f"must have at most {self._max_chars} characters")
            yield piece

    def _mistake(self, error: Exception, reason: str) -> VariableMistake:
        line = _line(self._template, error.__traceback__)
        where = f"line {line} of the {self._name}" if line else f"the {self._name}"
        return VariableMistake(f"{where}: {reason}")


def measure(variables: Variables) -> VariableSizes:
    """Return the sizes of the variables of a mail. Raises VariableMistake beyond a limit."""
    count = items = longest = chars = 0
    level: list[Any] = [variables]
    for _ in range(MAX_VARIABLES_DEEP + 2):  # a level of texts below the deepest list
        count += len(level)
        texts = [value for value in level if isinstance(value, str)]
        lists = [value for value in level if isinstance(value, list)]
        objects = [value for value in level if isinstance(value, Mapping)]
        texts += chain.from_iterable(objects)
        items = max([items, *map(len, lists)])
        longest = max([longest, *map(len, texts)])
        chars += sum(map(len, texts))
        if any("\x00" in text for text in texts):
            raise VariableMistake("must have no NUL character")
        # A whole number of more than 64 bits is one of these by now, without its last digits.
        if any(isinstance(value, float) and abs(value) >= TOO_LARGE for value in level):
            raise VariableMistake(
                "must have numbers of at most 64 bits: write longer ones as texts"
            )
        # Before the next level is made, which would have as many values.
        count_below = sum(map(len, lists)) + sum(map(len, objects))
        _check_limits(count + count_below, items, chars)
        level = [*chain.from_iterable(lists), *chain.from_iterable(e.values() for e in objects)]
        if not level:
            return VariableSizes(items, longest, chars)
    raise VariableMistake(f"must have at most {MAX_VARIABLES_DEEP} lists or objects in one another")


def _check_limits(count: int, items: int, chars: int) -> None:
    if count > MAX_VARIABLES:
        raise VariableMistake(f"must have at most {MAX_VARIABLES} values")
    if items > MAX_LIST_ITEMS:
        raise VariableMistake(f"must have lists of at most {MAX_LIST_ITEMS} items")
    if chars > MAX_VARIABLE_CHARS:
        raise VariableMistake(f"must have at most {MAX_VARIABLE_CHARS} characters")


def _steps(cost: LanguageCost, sizes: VariableSizes) -> int:
    """Return an upper bound of the steps of a rendering."""
    longest = max(cost.longest, sizes.chars if cost.joins else sizes.longest)
    items = max(cost.items, sizes.items)
    passes = sum(nodes * pow(items, deep) for deep, nodes in enumerate(cost.nodes))
    return int(passes * (1 + longest // CHARS_A_STEP))


def _line(template: Template, trace: TracebackType | None) -> int | None:
    """Return the line of a template at which its rendering ended."""
    found = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == template.filename:
            found = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return found
