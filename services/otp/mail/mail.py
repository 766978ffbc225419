"""Pure: the mail that carries a code."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

import orjson

from services.otp.mail.phrasebook import Translations
from services.otp.mail.template import CODE, fill, fill_lines
from services.otp.mail.wording import Translation


@dataclass(frozen=True, slots=True)
class MailContext:
    """Why a code is mailed: for which client and purpose, to whom, with how many seconds left."""

    client: str
    purpose: str
    locale: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Branding:
    """What a deployment says of itself: its From, language and names, and where codes are typed.

    Without `from_` it is the sender's default. `locale` is for whoever names none that there is.
    `products` are by client; the others go by `product`.
    """

    from_: str | None = None
    locale: str = "en"
    product: str | None = None
    products: Mapping[str, str] = field(default_factory=dict)
    autofill_domain: str | None = None

    def product_of(self, client: str) -> str:
        """Name the product of a client; empty if it has none."""
        return self.products.get(client) or self.product or ""


@dataclass(frozen=True, slots=True)
class CodeMail:
    """Text and HTML hold the code, so that neither is ever shown in a log; the subject never."""

    from_: str | None
    subject: str
    text: str = field(repr=False)
    html: str = field(repr=False)

    def encode(self) -> bytes:
        """Give the content as the sender expects it under a seal: a JSON object."""
        return orjson.dumps({"text": self.text, "html": self.html})


@dataclass(frozen=True, slots=True)
class MailWriter:
    """Writes mails: the code alone on its line, no link, no code in the subject."""

    translations: Translations
    branding: Branding = field(default_factory=Branding)

    def compose(self, code: str, context: MailContext) -> CodeMail:
        """Write the mail of a code, in the language asked for or else the deployment's own."""
        lang = self.translations.nearest(context.locale, self.branding.locale)
        product = self.branding.product_of(context.client)
        said = _said(self.translations.by_language[lang], context, product)
        parts = {**said, CODE: code, "lang": lang}
        return CodeMail(
            from_=self.branding.from_,
            subject=said["subject"],
            text=fill_lines(self.translations.text, parts) + self._autofill(code),
            html=fill_lines(
                self.translations.html, {name: escape(text) for name, text in parts.items()}
            ),
        )

    def _autofill(self, code: str) -> str:
        """Give the line that binds a code to its domain, which must be the last.

        Its form is that of https://wicg.github.io/sms-one-time-codes/ 3; mail programs take it
        over from text messages.
        """
        domain = self.branding.autofill_domain
        return f"\n@{domain} #{code}\n" if domain else ""


def _said(translation: Translation, context: MailContext, product: str) -> dict[str, str]:
    opening = translation.opening(context.purpose)
    named = {"product": product, "subject": opening.subject}
    return {
        "direction": translation.direction,
        "subject": fill(translation.branded_subject, named) if product else opening.subject,
        "intro": opening.intro,
        "validity": fill(translation.validity, {"lifetime": translation.lifetime(context.seconds)}),
        "origin": fill(translation.origin, named) if product else "",
        "warning": translation.warning,
        "advice": translation.advice,
    }
