"""The language of templates: what is no part of it."""

import pytest
from jinja2 import TemplateSyntaxError

from shared.template_language import MAX_DEPTH, MAX_NODES, MAX_TAG_CHARS, TEXT


def refusal(source: str) -> str:
    """Return the reason why a template is refused."""
    with pytest.raises(TemplateSyntaxError) as caught:
        TEXT.compile(source)
    return caught.value.message or ""


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("{{ range(10) }}", "a call"),
        ("{{ name.upper() }}", "a call"),
        ("{% for a in x %}{{ loop.cycle('a') }}{% endfor %}", "a call"),
        ("{% call x() %}{% endcall %}", "a call"),
        ("{{ 2 ** 9 }}", "arithmetic"),
        ("{{ name * 9 }}", "arithmetic"),
        ("{{ name + name }}", "arithmetic"),
        ("{{ '%s' % name }}", "arithmetic"),
        ("{{ -total }}", "arithmetic"),
        ("{{ name ~ name }}", "~"),
        ("{{ name[1:] }}", "a slice"),
        ("{{ {'a': 1} }}", "dict"),
        ("{% set x = 1 %}", "set"),
        ("{% set x %}a{% endset %}", "set"),
        ("{% with a = 1 %}{% endwith %}", "with"),
        ("{% macro a() %}{% endmacro %}", "macro"),
        ("{% include 'a' %}", "include"),
        ("{% extends 'a' %}", "extends"),
        ("{% import 'a' as b %}", "import"),
        ("{% from 'a' import b %}", "import"),
        ("{% block a %}{% endblock %}", "block"),
        ("{% filter upper %}x{% endfilter %}", "filter"),
        ("{% autoescape false %}{% endautoescape %}", "autoescape"),
        ("{% for a in x recursive %}{% endfor %}", "a recursive loop"),
    ],
)
def test_what_computes_or_reads_elsewhere_is_no_part_of_the_language(
    source: str, what: str
) -> None:
    """Calls, arithmetic, assignments, macros and other templates are refused by their name."""
    assert refusal(source) == f"{what} is no part of the language"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ name|safe }}", "the only filters are capitalize, default"),
        ("{{ name|replace('a', 'b') }}", "the only filters are"),
        ("{{ '%9999999999d'|format(1) }}", "the only filters are"),
        ("{{ name|attr('__class__') }}", "the only filters are"),
        ("{{ name|postrider_items }}", "the only filters are"),
        ("{{ x|join(*y) }}", "the only filters are"),
        ("{{ x is divisibleby(3) }}", "the only tests are defined"),
        ("{{ x|join(name) }}", "what join is given must be a short text or a number"),
        ("{{ x|join('" + "a" * 101 + "') }}", "what join is given must be a short text"),
        ("{{ x|truncate(length=name) }}", "what truncate is given must be a short text"),
        ("{{ x|urlencode|urlencode }}", "urlencode must be the first filter"),
        ("{{ x|default(y|urlencode)|urlencode }}", "urlencode must be the first filter"),
        ("{% for a in x %}" * 3 + "{% endfor %}" * 3, "at most 2 loops in one another"),
        ("{{ a }}" * MAX_NODES, f"at most {MAX_NODES} expressions"),
        ("{{ a" + ".b" * MAX_DEPTH + " }}", "nested too deeply"),
        ("{% if a %}" * 40 + "{% endif %}" * 40, "nested too deeply"),
        ("{{ '" + "a" * MAX_TAG_CHARS + "' }}", f"at most {MAX_TAG_CHARS} characters in tags"),
        ("{{ a" + " " * MAX_TAG_CHARS, f"at most {MAX_TAG_CHARS} characters in tags"),
    ],
)
def test_the_language_has_limits(source: str, reason: str) -> None:
    """An expression that could take long, or make a large text of a small one, is refused."""
    assert reason in refusal(source)


def test_the_cost_is_that_of_the_loops() -> None:
    """A node in a loop counts once for each item, in a loop of a loop for each pair."""
    _, cost = TEXT.compile("{{ a }}{% for b in c %}{{ b|join }}{% endfor %}{{ ['x' 'yz', 1, 2] }}")

    once, repeated, for_pairs, _ = cost.nodes
    assert (once, repeated, for_pairs) == (10, 4, 1)
    assert (cost.items, cost.longest, cost.joins) == (3, 3, True)
