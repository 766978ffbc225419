"""Pure: a mail made of a content type."""

import re
from typing import NamedTuple

import css_inline
import html2text

from shared.template import MailTemplate, RenderedMail, Variables

_STYLE = re.compile("<style", re.IGNORECASE)
_END_OF_BODY = re.compile("</body>", re.IGNORECASE)
_NO_LABEL = re.compile("[^A-Za-z0-9-]+")  # of a domain name (RFC 1035 2.3.1)


class Content(NamedTuple):
    """A content type as mails are made of it."""

    name: str
    title: str | None
    version: int
    paused: bool
    template: MailTemplate
    has_text: bool

    def render(self, variables: Variables, unsubscribe_url: str | None = None) -> RenderedMail:
        """Return a mail, which shows the link to unsubscribe if one is given.

        A style element becomes the style of each element, since mail programs drop it. Raises
        VariableMistake.
        """
        mail = self.template.render(variables)
        html = mail.html or ""
        if _STYLE.search(html):
            html = css_inline.inline(html, load_remote_stylesheets=False)
        if unsubscribe_url and unsubscribe_url not in html:
            html = _with_footer(html, unsubscribe_url)
        text = mail.text if self.has_text else _text_of(html)
        if unsubscribe_url and unsubscribe_url not in (text or ""):
            text = f"{text}\n\nUnsubscribe: {unsubscribe_url}\n"
        return RenderedMail(mail.subject, text, html)

    def list_id(self, host: str) -> str:
        """Return the List-Id of the list, in the domain of its links (RFC 2919 3)."""
        label = _NO_LABEL.sub("-", self.name)
        return f"<{label}.{host}>"


def _with_footer(html: str, url: str) -> str:
    footer = f'<p><a href="{url}">Unsubscribe</a></p>'
    end = _END_OF_BODY.search(html)
    place = end.start() if end else len(html)
    return f"{html[:place]}{footer}{html[place:]}"


def _text_of(html: str) -> str:
    reader = html2text.HTML2Text(bodywidth=0)
    return reader.handle(html)
