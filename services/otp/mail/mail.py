"""Pure: the mail that carries a code."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

import orjson

from services.otp.mail.translations import CODE, Translation, Translations, fill, fill_lines


@dataclass(frozen=True, slots=True)
class MailContext:
    """Client, purpose and locale of the request for a code, and the seconds that the code lives."""

    client: str
    purpose: str
    locale: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Branding:
    """The sender, default language and product names of a deployment, and its autofill domain.

    Without `from_` the sender's default holds. `locale` serves requests without a known locale.
    `products` are by client; every other client has `product`.
    """

    from_: str | None = None
    locale: str = "en"
    product: str | None = None
    products: Mapping[str, str] = field(default_factory=dict)
    autofill_domain: str | None = None

    def product_of(self, client: str) -> str:
        """Return the product of a client; empty if it has none."""
        return self.products.get(client) or self.product or ""


@dataclass(frozen=True, slots=True)
class CodeMail:
    """A mail with a code in its text and HTML, which no repr shows; the subject has no code."""

    from_: str | None
    subject: str
    text: str = field(repr=False)
    html: str = field(repr=False)

    def encode(self) -> bytes:
        """Return the content as the sender expects it under a seal: a JSON object."""
        return orjson.dumps({"text": self.text, "html": self.html})


@dataclass(frozen=True, slots=True)
class MailWriter:
    """A writer of mails with the code alone on its line, no link, and no code in the subject."""

    translations: Translations
    branding: Branding = field(default_factory=Branding)

    def compose(self, code: str, context: MailContext) -> CodeMail:
        """Write the mail of a code in the requested language, or else in the deployment's own."""
        lang = self.translations.nearest(context.locale, self.branding.locale)
        product = self.branding.product_of(context.client)
        texts = _texts(self.translations.by_language[lang], context, product)
        parts = {**texts, CODE: code, "lang": lang}
        escaped = {name: escape(text) for name, text in parts.items()}
        return CodeMail(
            from_=self.branding.from_,
            subject=texts["subject"],
            text=fill_lines(self.translations.text, parts) + self._autofill(code),
            html=fill_lines(self.translations.html, escaped),
        )

    def _autofill(self, code: str) -> str:
        """Return the line that binds a code to its domain, which must be the last.

        Its form is that of https://wicg.github.io/sms-one-time-codes/ 3; mail programs accept it
        as they do in text messages.
        """
        domain = self.branding.autofill_domain
        return f"\n@{domain} #{code}\n" if domain else ""


def _texts(translation: Translation, context: MailContext, product: str) -> dict[str, str]:
    opening = translation.opening(context.purpose)
    named = {"product": product, "subject": opening.subject}
    lifetime = {"lifetime": translation.lifetime(context.seconds)}
    return {
        "direction": translation.direction,
        "subject": fill(translation.branded_subject, named) if product else opening.subject,
        "intro": opening.intro,
        "validity": fill(translation.validity, lifetime),
        "origin": fill(translation.origin, named) if product else "",
        "warning": translation.warning,
        "advice": translation.advice,
    }
