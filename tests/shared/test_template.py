"""Templates of mails: what they render, and that nothing they are given costs much."""

import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.fields import MAX_SUBJECT_CHARS
from shared.template import (
    MAX_LIST_ITEMS,
    MAX_RENDERED_CHARS,
    MAX_TEMPLATE_CHARS,
    MAX_VARIABLE_CHARS,
    MAX_VARIABLES,
    MAX_VARIABLES_DEEP,
    MailTemplate,
    RenderedMail,
    TemplateMistake,
    VariableMistake,
    measure,
)

ORDER = (
    "{% for line in lines %}\n{{ loop.index }}. {{ line.title }}: {{ line.items }}\n{% endfor %}"
)
TEXTS = st.text(max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXTS, below, max_size=3),
    max_leaves=8,
)


def rendered(text: str, **variables: object) -> str:
    """Return a text with its variables."""
    mail = MailTemplate("Hello", text, None).render(variables)
    assert mail.text is not None
    return mail.text


def as_html(html: str, **variables: object) -> str:
    """Return an HTML part with its variables."""
    mail = MailTemplate("Hello", None, html).render(variables)
    assert mail.html is not None
    return mail.html


def mistake(text: str, **variables: object) -> str:
    """Return the mistake of variables."""
    with pytest.raises(VariableMistake) as caught:
        rendered(text, **variables)
    return str(caught.value)


def test_a_mail_has_its_variables_in_each_part() -> None:
    """Subject and text have the variables as they are, HTML has them escaped."""
    template = MailTemplate("For {{ name }}", "Dear {{ name }}", "<p>Dear {{ name }}")

    assert template.render({"name": "Ann & <Bo>"}) == RenderedMail(
        "For Ann & <Bo>", "Dear Ann & <Bo>", "<p>Dear Ann &amp; &lt;Bo&gt;"
    )


def test_a_loop_goes_through_objects() -> None:
    """Entries have any name, also one that Python's objects have; tags leave no empty lines."""
    lines = [{"title": "Tea", "items": 2}, {"title": "Cup", "items": 1}]

    assert rendered(ORDER, lines=lines) == "1. Tea: 2\n2. Cup: 1\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{ name|default('friend') }}", "friend"),
        ("{% if name is defined %}{{ name }}{% else %}you{% endif %}", "you"),
        ("{{ 'yes' if paid else 'no' }}", "yes"),
        ("{{ paid }} {{ total }} {{ price }}", "true 3 1.5"),
        ("{{ tags|join(', ') }}", "a, <b>"),
        ("{{ tags|first|upper }}{{ tags|length }}", "A2"),
        ("{{ tags[1] }}{{ user['first name'] }}", "<b>Ann"),
        ("{% for a in tags if a != 'a' %}{{ a }}{% else %}none{% endfor %}", "<b>"),
        ("{{ user['first name']|urlencode }}?{{ tags[1]|urlencode }}", "Ann?%3Cb%3E"),
        ("{{ tags[1]|escape }}", "&lt;b&gt;"),
        ("{% raw %}{{ name }}{% endraw %}{# a note #}", "{{ name }}"),
        ("{{ 'a' in tags and not (total > 3 or total is odd) }}", "false"),
        ("one\r\ntwo\n", "one\ntwo\n"),
    ],
)
def test_what_the_language_can_say(text: str, shown: str) -> None:
    """A template chooses, repeats and formats."""
    user = {"first name": "Ann"}

    assert rendered(text, paid=True, total=3, price=1.5, tags=["a", "<b>"], user=user) == shown


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n\n{{ name }}", "line 3 of the text: name is not among the variables"),
        ("{{ user.name }}", "line 1 of the text: name is not among the variables"),
        ("{% if name %}{% endif %}", "name is not among the variables"),
        ("{% for a in name %}{% endfor %}", "name is not among the variables"),
        ("{{ name.first }}", "name is not among the variables"),
        ("{{ secret.__class__ }}", "__class__ is not among the variables"),
        ("{{ secret.upper }}", "upper is not among the variables"),
        ("{{ user.items }}", "items is not among the variables"),
        ("{{ tags[2] }}", "2 is not among the variables"),
        ("{% for a in tags %}{{ loop.cycle }}{% endfor %}", "cycle is not among the variables"),
        ("{{ user }}", "only texts and numbers can be shown"),
        ("{{ tags }}", "only texts and numbers can be shown"),
        ("{{ nothing }}", "only texts and numbers can be shown"),
        ("{% for a in secret %}{% endfor %}", "a loop and `join` need a list"),
        ("{{ secret|join('-') }}", "a loop and `join` need a list"),
        ("{{ secret < 3 }}", "line 1 of the text: a variable has the wrong type"),
        ("{{ 3|length }}", "line 1 of the text: a variable has the wrong type"),
    ],
)
def test_variables_that_do_not_fit_are_a_mistake(text: str, reason: str) -> None:
    """A missing variable, or one of the wrong kind, is named with its line, without its value."""
    found = mistake(text, user={}, tags=["zq7", "zq7"], nothing=None, secret="zq7")

    assert reason in found
    assert "zq7" not in found


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Ann\r\nBcc: eve@x.example", "the subject must have no control characters"),
        ("=?utf-8?q?=0A?=", "no encoded words"),
        ("x" * MAX_SUBJECT_CHARS, "the subject: must have at most 900 characters"),
    ],
)
def test_a_subject_is_one_line(name: str, reason: str) -> None:
    """No variable puts a line end into the header, or makes the subject too long."""
    with pytest.raises(VariableMistake, match=reason):
        MailTemplate("Dear {{ name }}", "Hello", None).render({"name": name})


@pytest.mark.parametrize("part", ["subject", "text", "html"])
def test_a_mistake_in_a_template_names_its_part_and_line(part: str) -> None:
    """A template that cannot be read is refused when it is made."""
    parts = {"subject": "Hello", "text": "Hello", "html": "Hello"} | {part: "a\nb {{ name }"}

    with pytest.raises(TemplateMistake, match="line 2: unexpected '}'") as caught:
        MailTemplate(**parts)
    assert caught.value.part == part


@pytest.mark.parametrize(
    "text",
    [
        "{{ " + "(" * 300 + "1" + ")" * 300 + " }}",
        "{{ " + "9" * 5000 + " }}",
        "{{ not" * 1 + " not" * 3000 + " 1 }}",
    ],
    ids=["brackets", "digits", "not"],
)
def test_a_template_that_no_program_could_hold_is_refused(text: str) -> None:
    """Nesting and numbers beyond Python's own limits are a mistake of the template."""
    with pytest.raises(TemplateMistake, match="is nested too deeply, or has too large numbers"):
        MailTemplate("Hello", text, None)


def test_the_rendered_part_has_a_limit() -> None:
    """A small template and small variables do not become a large mail."""
    text = "{% for a in tags %}{% for b in tags %}{{ long }}{% endfor %}{% endfor %}"

    assert "must have at most 262144 characters" in mistake(text, tags=["a"] * 50, long="x" * 400)
    assert len(rendered("x" * MAX_TEMPLATE_CHARS)) == MAX_TEMPLATE_CHARS <= MAX_RENDERED_CHARS


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"a": [0] * (MAX_LIST_ITEMS + 1)}, "lists of at most 100 items"),
        ({f"a{each}": 0 for each in range(MAX_VARIABLES)}, "at most 1000 values"),
        ({"a": [[0] * 100] * 10}, "at most 1000 values"),
        ({"a": "x" * MAX_VARIABLE_CHARS}, "at most 32768 characters"),
        ({"x" * MAX_VARIABLE_CHARS: "a"}, "at most 32768 characters"),
        ({"a": [[[[[[0]]]]]]}, "at most 5 lists or objects in one another"),
        ({"a": "b\x00"}, "no NUL character"),
        (orjson.loads(b'{"a": [12345678901234567890123]}'), "numbers of at most 64 bits"),
        (orjson.loads(b'{"a": {"b": -9223372036854775809}}'), "numbers of at most 64 bits"),
    ],
)
def test_variables_have_limits(variables: dict[str, Any], reason: str) -> None:
    """Variables beyond a limit are refused before anything is rendered."""
    with pytest.raises(VariableMistake, match=reason):
        measure(variables)


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 9.2e18, 0.1, True])
def test_a_number_stays_as_it_is(number: float) -> None:
    """Numbers of up to 64 bits are passed, as JSON has them."""
    assert measure(orjson.loads(orjson.dumps({"a": number}))).chars == 1


def test_variables_at_their_limits_are_taken() -> None:
    """Each limit itself is within."""
    deep: object = 0
    for _ in range(MAX_VARIABLES_DEEP):
        deep = [deep]

    assert measure({"a": deep}).items == 1
    assert measure({"a": [0] * MAX_LIST_ITEMS}).items == MAX_LIST_ITEMS
    assert measure({"a": "x" * (MAX_VARIABLE_CHARS - 1)}).longest == MAX_VARIABLE_CHARS - 1
    assert measure({f"a{each}": 0 for each in range(MAX_VARIABLES - 1)}).chars > 0


SLOW = "|capitalize|upper|lower|trim|capitalize|upper == 'x' %}{% endif %}"
LOOPS = "{% for a in x %}{% for b in x %}%s{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        (("{% if a" + SLOW) * 50, {"a": "é Ö " * 8000}),
        ("{% if a|urlencode|upper == 'x' %}{% endif %}" * 20, {"a": "é Ö " * 8000}),
        (("{% if x|join('" + "é" * 100 + "')" + SLOW) * 4, {"x": ["é" * 300] * 100}),
        (LOOPS.replace("%s", ("{% if a" + SLOW) * 2), {"x": ["ab"] * 100}),
        (
            LOOPS.replace("x %}{% for b", "[1" + ",1" * 400 + "] %}{% for b").replace(
                "%s", "{{ x }}"
            ),
            {"x": [1] * 100},
        ),
        (LOOPS.replace("%s", "{{ '" + "é" * 9000 + "'|upper }}"), {"x": [1] * 30}),
    ],
    ids=["filters", "urlencode", "join", "loops", "literal list", "literal text"],
)
def test_rendering_that_would_take_long_is_refused(text: str, variables: dict[str, Any]) -> None:
    """The cost of a rendering is known before it begins, from the template and the sizes."""
    template = MailTemplate("Hello", text, None)
    begun = time.thread_time()

    with pytest.raises(VariableMistake, match="too many loops for variables of this size"):
        template.render(variables)

    assert time.thread_time() - begun < 0.05


@settings(max_examples=200)
@given(variables=st.dictionaries(st.sampled_from(["a", "b", "lines"]), VALUES))
def test_any_variables_are_rendered_or_refused(variables: dict[str, Any]) -> None:
    """No value of JSON ends a rendering in another way, and none leaves its place in the HTML."""
    for text in (ORDER, "{{ a|default(b) }}", "{% if a < b %}{{ a }}{% endif %}", "{{ a[b] }}"):
        try:
            html = as_html(text, **variables)
        except VariableMistake:
            continue
        assert "<" not in html
