"""The pages behind the links in mails: to unsubscribe, and to confirm a subscription.

Programs that scan mail follow every link, so only a POST changes anything. Mail programs send it by
themselves (RFC 8058 3.2): without a login, a cookie or a redirect. The answer is the same for a
token that is unknown, and each time.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs

import jinja2
from aiohttp import web

from services.gateway.api.request import REPEATABLE
from services.gateway.api.response import AskingViews
from shared.contracts import (
    AddSuppressions,
    Category,
    ConfirmSubscription,
    ContentTypeAnswered,
    DescribeContentType,
    NewSuppression,
    RemoveSuppressions,
    SubscriptionAnswered,
    SuppressionOrigin,
    SuppressionsChanged,
)
from shared.contracts.schedule import subscription_id
from shared.errors import NoAnswer, Unavailable
from shared.links import LinkedSubscription, LinkKind, Links

MAX_FORM_BYTES = 4 * 1024
MAX_ACCEPT_CHARS = 200  # of the reader's languages
ONE, ALL, CONFIRM = "one", "all", "confirm"  # the values of the buttons
UNSUBSCRIBE_PATH, CONFIRM_PATH = "/unsubscribe/{token}", "/subscribe/{token}"

_PAGE = Path(__file__).parent.parent / "page" / "link.html"
_TEMPLATE = jinja2.Environment(
    autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
).from_string(_PAGE.read_text(encoding="utf-8"))


class LinkTexts(NamedTuple):
    """The words of the pages in one language; `{title}` is the list's name."""

    unsubscribe: str
    unsubscribe_text: str
    one: str
    all: str
    done: str
    done_text: str
    confirm: str
    confirm_text: str
    subscribe: str
    confirmed: str
    confirmed_text: str
    this_list: str


TEXTS: Mapping[str, LinkTexts] = {
    "en": LinkTexts(
        "Unsubscribe from {title}?",
        "You will get no more mail of this list.",
        "Unsubscribe",
        "Unsubscribe from all lists of this sender",
        "You are unsubscribed",
        "You will get no more mail of this list. It may take a moment until all of them stop.",
        "Subscribe to {title}?",
        "You can unsubscribe at any time, by a link in each mail.",
        "Subscribe",
        "You are subscribed",
        "Thank you. You can unsubscribe at any time, by a link in each mail.",
        "this list",
    ),
    "de": LinkTexts(
        "{title} abbestellen?",
        "Sie erhalten dann keine Mails dieser Liste mehr.",
        "Abbestellen",
        "Alle Listen dieses Absenders abbestellen",
        "Sie sind abgemeldet",
        "Sie erhalten keine Mails dieser Liste mehr. Das kann einen Moment dauern.",
        "{title} abonnieren?",
        "Sie können jederzeit über einen Link in jeder Mail abbestellen.",
        "Abonnieren",
        "Sie sind angemeldet",
        "Danke. Sie können jederzeit über einen Link in jeder Mail abbestellen.",
        "diese Liste",
    ),
    "fr": LinkTexts(
        "Se désabonner de {title} ?",
        "Vous ne recevrez plus de messages de cette liste.",
        "Se désabonner",
        "Se désabonner de toutes les listes de cet expéditeur",
        "Vous êtes désabonné",
        "Vous ne recevrez plus de messages de cette liste. Cela peut prendre un instant.",
        "S'abonner à {title} ?",
        "Vous pourrez vous désabonner à tout moment, par un lien dans chaque message.",
        "S'abonner",
        "Vous êtes abonné",
        "Merci. Vous pouvez vous désabonner à tout moment, par un lien dans chaque message.",
        "cette liste",
    ),
    "es": LinkTexts(
        "¿Cancelar la suscripción a {title}?",
        "No recibirá más correos de esta lista.",
        "Cancelar la suscripción",
        "Cancelar todas las suscripciones a este remitente",
        "Suscripción cancelada",
        "No recibirá más correos de esta lista. Puede tardar un momento.",
        "¿Suscribirse a {title}?",
        "Puede cancelarla en cualquier momento, con un enlace en cada correo.",
        "Suscribirse",
        "Suscripción confirmada",
        "Gracias. Puede cancelarla en cualquier momento, con un enlace en cada correo.",
        "esta lista",
    ),
}


@dataclass(frozen=True, slots=True)
class LinkViews(AskingViews):
    """The pages behind links, whose tokens `links` can read."""

    links: Links
    now: Callable[[], datetime]

    async def show_unsubscribe(self, request: web.Request) -> web.Response:
        """Return the page that asks; it changes nothing."""
        found = self._read(LinkKind.UNSUBSCRIBE, request)
        language, texts = _texts(found, request)
        title = await self._title(found) or texts.this_list
        buttons = [(ONE, texts.one), (ALL, texts.all)]
        heading = texts.unsubscribe.format(title=title)
        return _page(language, heading, texts.unsubscribe_text, buttons)

    async def unsubscribe(self, request: web.Request) -> web.Response:
        """Keep an opt-out of the list, or of all lists if that button was pressed."""
        request[REPEATABLE] = True
        choice = await self._choice(request)
        found = self._read(LinkKind.UNSUBSCRIBE, request)
        if found is not None:
            entry = NewSuppression(
                email=found.email,
                client=found.client,
                list_id=None if choice == ALL else found.content_type,
                categories=(Category.BULK,),
                origin=SuppressionOrigin.UNSUBSCRIBE,
            )
            question = AddSuppressions(id=self.new_id(), suppressions=(entry,))
            await self.ask(question, SuppressionsChanged)
        language, texts = _texts(found, request)
        return _page(language, texts.done, texts.done_text)

    async def show_confirm(self, request: web.Request) -> web.Response:
        """Return the page that asks; it changes nothing."""
        found = self._read(LinkKind.CONFIRM, request)
        language, texts = _texts(found, request)
        title = await self._title(found) or texts.this_list
        heading = texts.confirm.format(title=title)
        return _page(language, heading, texts.confirm_text, [(CONFIRM, texts.subscribe)])

    async def confirm(self, request: web.Request) -> web.Response:
        """Make a subscription active; an earlier opt-out of its list counts no more."""
        request[REPEATABLE] = True
        await self._choice(request)
        found = self._read(LinkKind.CONFIRM, request)
        if found is not None:
            await self._lift_opt_out(found)
            identifier = subscription_id(found.client, found.content_type, found.email)
            question = ConfirmSubscription(id=self.new_id(), subscription_id=identifier)
            await self.ask(question, SubscriptionAnswered)
        language, texts = _texts(found, request)
        return _page(language, texts.confirmed, texts.confirmed_text)

    async def _lift_opt_out(self, found: LinkedSubscription) -> None:
        question = RemoveSuppressions(
            id=self.new_id(),
            emails=(found.email,),
            client=found.client,
            origin=SuppressionOrigin.UNSUBSCRIBE,
            list_id=found.content_type,
        )
        await self.ask(question, SuppressionsChanged)

    async def _choice(self, request: web.Request) -> str | None:
        """Return the button that was pressed, None for the POST of a mail program."""
        kind = request.content_type
        content = await self.reader.read_bytes(request, MAX_FORM_BYTES, (kind,))
        if kind != "application/x-www-form-urlencoded":
            return None
        fields = parse_qs(content.decode(errors="replace"))
        return fields.get("choice", [None])[0]

    def _read(self, kind: LinkKind, request: web.Request) -> LinkedSubscription | None:
        return self.links.read(kind, request.match_info["token"], self.now())

    async def _title(self, found: LinkedSubscription | None) -> str | None:
        """Return the list's name; the page works without the scheduler."""
        if found is None:
            return None
        question = DescribeContentType(
            id=self.new_id(), client=found.client, name=found.content_type
        )
        try:
            content_type = (await self.ask(question, ContentTypeAnswered)).content_type
        except (NoAnswer, Unavailable):
            return found.content_type
        return (content_type and content_type.title) or found.content_type


def _texts(found: LinkedSubscription | None, request: web.Request) -> tuple[str, LinkTexts]:
    """Return the words in the subscription's language, or else in one that the reader accepts."""
    wanted = [found.locale] if found is not None and found.locale else []
    accepted = request.headers.get("Accept-Language", "")[:MAX_ACCEPT_CHARS]
    wanted += [each.partition(";")[0].strip() for each in accepted.split(",")]
    languages = [each[:2].lower() for each in wanted]
    language = next((each for each in languages if each in TEXTS), "en")
    return language, TEXTS[language]


def _page(
    language: str, heading: str, text: str, buttons: Sequence[tuple[str, str]] = ()
) -> web.Response:
    nonce = secrets.token_urlsafe(16)
    html = _TEMPLATE.render(
        language=language, heading=heading, text=text, buttons=buttons, nonce=nonce
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    )
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
    return web.Response(text=html, content_type="text/html", charset="utf-8", headers=headers)
