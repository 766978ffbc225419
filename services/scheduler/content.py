"""Pure: a mail made of a content type."""

import re
from functools import lru_cache
from typing import NamedTuple

import css_inline
import orjson
import turbohtml

from shared.links import UNSUBSCRIBE_VARIABLE
from shared.template import (
    MAX_RENDERED_CHARS,
    MailTemplate,
    RenderedMail,
    VariableMistake,
    Variables,
)

# css-inline 0.24 recurses: elements in one another beyond some 10,000 end the process.
MAX_STYLED_TAGS = 5_000
MAX_STYLE_STEPS = 200_000  # tags times selectors: up to half a second
MAX_COMPILED = 500  # content types whose templates are kept compiled
_UNSUBSCRIBE = {
    "en": "Unsubscribe",
    "de": "Abbestellen",
    "fr": "Se désabonner",
    "es": "Cancelar la suscripción",
}
_TEXT = turbohtml.PlainText(links="inline", images=True)
_END_OF_BODY = re.compile("</body>", re.IGNORECASE)


class Content(NamedTuple):
    """A content type as mails are made of it."""

    name: str
    title: str | None
    version: int
    paused: bool
    subject: str
    html: str
    text: str | None

    def render(
        self, variables: Variables, unsubscribe_url: str | None = None, locale: str | None = None
    ) -> RenderedMail:
        """Return a mail, which shows the link to unsubscribe if one is given, in a language.

        A style element becomes the style of each element, since mail programs drop it. Raises
        VariableMistake. Styles and tables may take any time and memory: see `rendering`.
        """
        mail = _compiled(self.subject, self.text, self.html).render(variables)
        html = _styled(mail.html or "")
        label = _UNSUBSCRIBE.get((locale or "")[:2].lower(), _UNSUBSCRIBE["en"])
        if unsubscribe_url and unsubscribe_url not in html:
            html = _with_footer(html, unsubscribe_url, label)
        text = _text_of(html) if self.text is None else mail.text
        if unsubscribe_url and unsubscribe_url not in (text or ""):
            text = f"{text}\n\n{label}: {unsubscribe_url}\n"
        return RenderedMail(mail.subject, text, html)


class MailRequest(NamedTuple):
    """The parts of a mail that is to be made; `variables` is JSON."""

    content: Content
    variables: str
    unsubscribe_url: str | None = None
    locale: str | None = None

    def make(self) -> RenderedMail:
        """Return the mail. Raises VariableMistake."""
        own = {} if self.unsubscribe_url is None else {UNSUBSCRIBE_VARIABLE: self.unsubscribe_url}
        variables = orjson.loads(self.variables) | own
        return self.content.render(variables, self.unsubscribe_url, self.locale)


def _styled(html: str) -> str:
    """Return HTML whose style elements became the style of each element. Raises VariableMistake."""
    lower = html.lower()
    styles = [each.partition("</style")[0] for each in lower.split("<style")[1:]]
    if not styles:
        return html
    tags = lower.count("<") - lower.count("</")
    selectors = sum(each.count("{") + each.count(",") for each in styles)
    if tags > MAX_STYLED_TAGS or tags * selectors > MAX_STYLE_STEPS:
        raise VariableMistake("the html has too many elements for its styles")
    try:
        styled: str = css_inline.inline(html, load_remote_stylesheets=False)
    except css_inline.InlineError:
        raise VariableMistake("the html has styles that cannot be read") from None
    if len(styled) > MAX_RENDERED_CHARS:
        raise VariableMistake(f"the html with its styles has over {MAX_RENDERED_CHARS} characters")
    return styled


def _with_footer(html: str, url: str, label: str) -> str:
    footer = f'<p><a href="{url}">{label}</a></p>'
    end = _END_OF_BODY.search(html)
    place = end.start() if end else len(html)
    return f"{html[:place]}{footer}{html[place:]}"


def _text_of(html: str) -> str:
    """Return the text of HTML. Raises VariableMistake for one that is longer than a text may be."""
    text = turbohtml.parse(html).to_text(_TEXT)
    if len(text) > MAX_RENDERED_CHARS:
        # The cells of a table's column are all as wide as its widest one.
        raise VariableMistake(f"the text of the html has over {MAX_RENDERED_CHARS} characters")
    return text


@lru_cache(maxsize=MAX_COMPILED)
def _compiled(subject: str, text: str | None, html: str) -> MailTemplate:
    return MailTemplate(subject, text, html)
