"""The mail of a code: every language and purpose, read back as its recipient's program does."""

from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.otp.mail import translations
from services.otp.mail.mail import Branding, CodeMail, MailContext, MailWriter
from services.otp.mail.translations import REQUIRED_PURPOSES, Translations, check_no_link
from services.sender.mail.builder import unseal
from services.sender.mail.compose import MailDefaults, compose
from shared.contracts import Category, SendEmail
from tests.otp.mail.texts import LANGUAGES, shipped_layouts, toml

CODE = "012345"
EMAIL = "anna@x.example"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
NAMES = st.text("aé&<>\"'{}$ 日本-:@", min_size=1, max_size=60).map(str.strip).filter(bool)
ACME = Branding(product="Acme & <Söhne>", products={"shop": "Acme Shop"})


def write(
    locale: str | None = "en",
    purpose: str = "confirm-address",
    branding: Branding = ACME,
    client: str = "",
    seconds: float = 600,
) -> CodeMail:
    """Write a mail."""
    context = MailContext(client, purpose, locale, seconds)
    return MailWriter(translations.shipped(), branding).compose(CODE, context)


def sent(mail: CodeMail) -> EmailMessage:
    """Send a mail through the sender's composer, and read it as a mail program does."""
    command = SendEmail(
        id="m-1", category=Category.OTP, to=(EMAIL,), subject=mail.subject, sealed="sealed"
    )
    content = unseal(command, lambda *_: mail.encode())
    octets = compose(command, content, MailDefaults("post@our.example", "our.example"), NOW).content
    parsed = message_from_bytes(octets, policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    assert not parsed.defects
    return parsed


def part(message: EmailMessage, kind: str) -> str:
    """Return the text or HTML of a mail."""
    found = message.get_body((kind,))
    assert isinstance(found, EmailMessage)
    content: str = found.get_content()
    return content


PLAIN = write(branding=Branding())


class Page(HTMLParser):
    """Parses HTML: the shown text, the open elements and the attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.shown: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record an element, and that it is open."""
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the element that was opened last, and no other."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Record shown text."""
        if data.strip() and self.open[-1] != "title":
            self.shown.append(" ".join(data.split(" ")).strip())


@pytest.mark.parametrize("purpose", [*REQUIRED_PURPOSES, "unheard-of"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_mail(language: str, purpose: str) -> None:
    """Text and HTML show the same, and the code is alone on its line in both."""
    mail = write(language, purpose)
    message, translation = sent(mail), translations.shipped().by_language[language]
    text, page = part(message, "plain"), Page(part(message, "html"))

    assert message["Subject"] == mail.subject
    assert text.splitlines().count(CODE) == 1
    assert page.shown == [line for line in text.splitlines() if line]
    assert page.shown[0] == translation.opening(purpose).intro
    assert translation.lifetime(600) in text
    assert translation.warning in page.shown
    assert "Acme & <Söhne>" in text
    assert not page.open
    assert ("lang", language) in page.attributes
    assert ("role", "article") in page.attributes


@pytest.mark.parametrize("purpose", [*REQUIRED_PURPOSES, "unheard-of"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_code_in_the_subject_and_no_link(language: str, purpose: str) -> None:
    """Relays log subjects and locked screens show them; forged mails have links."""
    mail = write(language, purpose)

    assert CODE not in mail.subject
    for text in (mail.subject, mail.text, mail.html):
        assert check_no_link(text)
        assert "{" not in text


@pytest.mark.parametrize(
    ("purpose", "text"),
    [
        ("confirm-address", "code to confirm your email address"),
        ("sign-in", "sign-in code"),
        ("unheard-of", "one-time code"),
    ],
)
def test_for_what(purpose: str, text: str) -> None:
    """A mail names the purpose of its code, in general words for an unknown purpose."""
    mail = write("en", purpose)

    assert mail.subject == f"Acme & <Söhne>: Your {text}"
    assert mail.text.startswith(f"Your {text} is:\n\n{CODE}\n")


def test_the_text_whole() -> None:
    """The text of the mail is this, to the letter."""
    assert write(branding=Branding(product="Acme")).text == (
        "Your code to confirm your email address is:\n"
        "\n"
        "012345\n"
        "\n"
        "It can be used once and is valid for 10 minutes after this email was sent.\n"
        "It was requested for this email address at Acme.\n"
        "\n"
        "Never give this code to anyone.\n"
        "We will never ask you for it. If you did not request a code, you can ignore this email.\n"
    )


@pytest.mark.parametrize(
    ("locale", "language"),
    [("de-AT", "de"), ("fr_CA", "fr"), ("ja-JP", "ja"), ("zh", "vi"), (None, "vi")],
)
def test_language(locale: str | None, language: str) -> None:
    """The language is the nearest to the requested one, else the deployment's own."""
    mail = write(locale, branding=Branding(locale="vi"))

    assert (
        mail.subject
        == translations.shipped().by_language[language].opening("confirm-address").subject
    )
    assert f'<html lang="{language}"' in mail.html


def test_a_mail_names_the_client_s_product() -> None:
    """A mail names the client's product, or else the deployment's, if there is one."""
    assert "at Acme Shop." in write(client="shop").text
    assert "Acme & <Söhne>: " in write(client="blog").subject
    unnamed = write(branding=Branding())
    assert unnamed.subject == "Your code to confirm your email address"
    assert "requested for" not in unnamed.text
    assert "requested for" not in unnamed.html
    assert "<p" in unnamed.html
    assert len(unnamed.text.splitlines()) == len(write().text.splitlines()) - 1


def test_html_is_escaped() -> None:
    """A name cannot become an element, nor end an attribute."""
    html = write(branding=Branding(product='"><script>&')).html

    assert "&quot;&gt;&lt;script&gt;&amp;" in html
    assert "<script" not in html


@settings(deadline=None)
@given(NAMES)
def test_any_name(product: str) -> None:
    """Subject, text and HTML contain any name of a deployment, and nothing more."""
    mail = write(branding=Branding(product=product))
    message = sent(mail)
    text, page = part(message, "plain"), Page(part(message, "html"))

    assert message.keys() == sent(write()).keys()
    assert message["Subject"] == mail.subject == f"{product}: {PLAIN.subject}"
    assert f" at {product}." in text
    assert text.splitlines().count(CODE) == 1
    assert len(page.shown) == len([line for line in PLAIN.text.splitlines() if line]) + 1


def test_autofill() -> None:
    """With an autofill domain, the last line of the text, and of it alone, binds the code to it."""
    bound = write(branding=Branding(autofill_domain="example.com"))

    assert bound.text.endswith("\n\n@example.com #012345\n")
    assert "@example.com" not in bound.html
    assert "#" not in write().text


def test_short_of_time() -> None:
    """A mail of a code that is about to expire does not promise a minute."""
    assert "valid for less than a minute after this email was sent." in write(seconds=59).text


def test_a_language_of_a_deployment() -> None:
    """The HTML of a language from right to left has its direction, and the code on its line."""
    parsed = Translations.parse({**shipped_layouts(), "ar.toml": toml(direction="rtl")})
    html = MailWriter(parsed).compose(CODE, MailContext("", "sign-in", "ar-EG", 600)).html

    assert '<html lang="ar" dir="rtl"' in html
    assert CODE in html.splitlines()


def test_the_code_is_not_shown_by_accident() -> None:
    """The repr of a mail does not have the code."""
    assert CODE not in repr(write())


def test_the_content_is_what_the_sender_reads() -> None:
    """The sealed content is a JSON object with `text` and `html`."""
    written = write()

    assert orjson.loads(written.encode()) == {"text": written.text, "html": written.html}


def test_nothing_but_what_is_promised() -> None:
    """No mail calls its code more than the confirmation of an address."""
    for text in _all_texts():
        assert not {"2FA", "MFA", "NIST"} & {*text.upper().replace(".", " ").split()}


def _all_texts() -> Iterator[str]:
    for language in LANGUAGES:
        for purpose in REQUIRED_PURPOSES:
            mail = write(language, purpose)
            yield mail.subject + " " + mail.text
