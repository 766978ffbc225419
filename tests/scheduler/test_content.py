"""Tests of the mails that content types make."""

import pytest

from services.scheduler.content import MAX_STYLED_TAGS, Content
from shared.template import VariableMistake

LINK = "https://mail.example/unsubscribe/AbC_-123"


def content(html: str, text: str | None = None, name: str = "news") -> Content:
    """Return a content type."""
    return Content(name, None, 1, paused=False, subject="News", html=html, text=text)


def test_styles_become_those_of_the_elements() -> None:
    """A mail program that drops the style element shows the same mail."""
    mail = content("<style>p > b {color:red}</style><p>Hello <b>you</b></p>").render({})

    assert mail.html is not None
    assert '<p>Hello <b style="color: red;">you</b></p>' in mail.html
    assert "<style" not in mail.html


def test_html_without_styles_stays_as_it_is() -> None:
    """HTML that needs no style is passed on to the letter."""
    html = "<P class=a>Hello<br>you"

    assert content(html).render({}).html == html


@pytest.mark.parametrize(
    "html",
    [
        "<style>p{color:red}</style>" + "<div>" * MAX_STYLED_TAGS,
        "<STYLE>" + "*{a:b}" * 1_000 + "</STYLE>" + "<b>" * 1_000,
        "<style>" + ",".join(["*"] * 1_000) + "{a:b}" + "<b>" * 1_000,
        "<style>*{background:" + "x" * 60_000 + "}</style>" + "<b></b>" * 10,
    ],
    ids=["deep", "rules", "selectors", "size"],
)
def test_styles_that_cost_too_much(html: str) -> None:
    """No content type ends or blocks the scheduler by its styles, nor makes huge mails of them."""
    with pytest.raises(VariableMistake, match="the html"):
        content(html).render({})


def test_the_text_is_that_of_the_html() -> None:
    """Without a text of its own a mail has that of its HTML, with the targets of its links."""
    html = "<h1>News &amp; more</h1><p>Read <a href='https://a.example/?a=1&amp;b=2'>it</a></p>"
    mail = content(html + "<ul><li>One</li><li>Two</li></ul>").render({})

    assert mail.text == "News & more\n\nRead it (https://a.example/?a=1&b=2)\n\n* One\n* Two"


def test_a_text_of_its_own() -> None:
    """A text that is given is the text of the mail."""
    assert content("<p>Hello</p>", "Hi {{ name }}").render({"name": "Ann"}).text == "Hi Ann"


def test_a_link_is_added_to_both_parts() -> None:
    """A reader can unsubscribe in either part, before the end of the HTML's body."""
    mail = content("<body><p>Hello</p></body>", "Hello").render({}, LINK)

    assert mail.html == f'<body><p>Hello</p><p><a href="{LINK}">Unsubscribe</a></p></body>'
    assert mail.text == f"Hello\n\nUnsubscribe: {LINK}\n"


@pytest.mark.parametrize(("locale", "label"), [("de-AT", "Abbestellen"), ("ja", "Unsubscribe")])
def test_the_link_is_in_the_language_of_the_subscription(locale: str, label: str) -> None:
    """The link is named in a language that the pages have, else in English."""
    mail = content("<p>Hello</p>", "Hello").render({}, LINK, locale)

    assert f">{label}</a>" in (mail.html or "")
    assert mail.text == f"Hello\n\n{label}: {LINK}\n"


def test_a_derived_text_has_the_link_once() -> None:
    """The text that is made of the HTML has the link of the HTML."""
    mail = content("<p>Hello</p>").render({}, LINK)

    assert mail.text is not None
    assert mail.text.count(LINK) == 1


def test_a_template_that_shows_the_link_gets_no_other() -> None:
    """A template may have the link where it wants it."""
    shown = content('<a href="{{ unsubscribe_url }}">Stop</a>', "Stop: {{ unsubscribe_url }}")
    mail = shown.render({"unsubscribe_url": LINK}, LINK)

    assert mail.html == f'<a href="{LINK}">Stop</a>'
    assert mail.text == f"Stop: {LINK}"
