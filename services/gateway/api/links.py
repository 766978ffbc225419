"""The pages behind the links in mails: to unsubscribe, and to confirm a subscription.

Programs that scan mail follow every link, so only a POST changes anything. Mail programs send it by
themselves (RFC 8058 3.2): without a login, a cookie or a redirect. The answer is the same for a
token that is unknown, and each time.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs

import jinja2
from aiohttp import web

from services.gateway.api.problem import retry_after
from services.gateway.api.request import REASON, REPEATABLE
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
    done_all_text: str
    confirm: str
    confirm_text: str
    subscribe: str
    confirmed: str
    confirmed_text: str
    this_list: str
    away: str
    away_text: str


TEXTS: Mapping[str, LinkTexts] = {
    "en": LinkTexts(
        "Unsubscribe from {title}?",
        "You will get no more mail of this list.",
        "Unsubscribe",
        "Unsubscribe from all lists of this sender",
        "You are unsubscribed",
        "You will get no more mail of this list. A mail that is on its way may still arrive.",
        "You will get no more mail of any list of this sender. A mail that is on its way may still"
        " arrive.",
        "Subscribe to {title}?",
        "You can unsubscribe at any time, by a link in each mail.",
        "Subscribe",
        "You are subscribed",
        "Thank you. You can unsubscribe at any time, by a link in each mail.",
        "this list",
        "This did not work",
        "Nothing has changed yet. Please try again in a few minutes.",
    ),
    "de": LinkTexts(
        "{title} abbestellen?",
        "Sie erhalten dann keine Mails dieser Liste mehr.",
        "Abbestellen",
        "Alle Listen dieses Absenders abbestellen",
        "Sie sind abgemeldet",
        "Sie erhalten keine Mails dieser Liste mehr. Eine Mail, die schon unterwegs ist, kann noch"
        " ankommen.",
        "Sie erhalten keine Mails von Listen dieses Absenders mehr. Eine Mail, die schon unterwegs"
        " ist, kann noch ankommen.",
        "{title} abonnieren?",
        "Sie können jederzeit über einen Link in jeder Mail abbestellen.",
        "Abonnieren",
        "Sie sind angemeldet",
        "Danke. Sie können jederzeit über einen Link in jeder Mail abbestellen.",
        "Diese Liste",
        "Das hat nicht geklappt",
        "Es hat sich noch nichts geändert. Bitte versuchen Sie es in einigen Minuten noch einmal.",
    ),
    "fr": LinkTexts(
        "Se désabonner de {title}\N{NO-BREAK SPACE}?",
        "Vous ne recevrez plus de messages de cette liste.",
        "Se désabonner",
        "Se désabonner de toutes les listes de cet expéditeur",
        "Votre désabonnement est enregistré",
        "Vous ne recevrez plus de messages de cette liste. Un message déjà envoyé peut encore vous"
        " parvenir.",
        "Vous ne recevrez plus de messages des listes de cet expéditeur. Un message déjà envoyé"
        " peut encore vous parvenir.",
        "S'abonner à {title}\N{NO-BREAK SPACE}?",
        "Vous pourrez vous désabonner à tout moment, grâce à un lien dans chaque message.",
        "S'abonner",
        "Votre abonnement est confirmé",
        "Merci. Vous pouvez vous désabonner à tout moment, grâce à un lien dans chaque message.",
        "cette liste",
        "L'opération a échoué",
        "Rien n'a changé pour l'instant. Veuillez réessayer dans quelques minutes.",
    ),
    "es": LinkTexts(
        "¿Cancelar la suscripción a {title}?",
        "No recibirá más correos de esta lista.",
        "Cancelar la suscripción",
        "Cancelar la suscripción a todas las listas de este remitente",
        "Suscripción cancelada",
        "No recibirá más correos de esta lista. Es posible que aún le llegue algún correo ya"
        " enviado.",
        "No recibirá más correos de ninguna lista de este remitente. Es posible que aún le llegue"
        " algún correo ya enviado.",
        "¿Suscribirse a {title}?",
        "Puede cancelar la suscripción en cualquier momento, con un enlace en cada correo.",
        "Suscribirse",
        "Suscripción confirmada",
        "Gracias. Puede cancelar la suscripción en cualquier momento, con un enlace en cada"
        " correo.",
        "esta lista",
        "No ha funcionado",
        "Todavía no ha cambiado nada. Inténtelo de nuevo dentro de unos minutos.",
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
        return _page(language, heading, texts.unsubscribe_text, buttons=buttons)

    async def unsubscribe(self, request: web.Request) -> web.Response:
        """Keep an opt-out of the list, or of all lists if that button was pressed."""
        request[REPEATABLE] = True
        choice = await self._choice(request)
        found = self._read(LinkKind.UNSUBSCRIBE, request)
        language, texts = _texts(found, request)
        try:
            await self._opt_out(found, everything=choice == ALL)
        except (NoAnswer, Unavailable) as error:
            return _away(request, language, texts, error)
        text = texts.done_all_text if choice == ALL else texts.done_text
        title = await self._title(found) if choice == ONE else None
        return _page(language, texts.done, text, title)

    async def show_confirm(self, request: web.Request) -> web.Response:
        """Return the page that asks; it changes nothing."""
        found = self._read(LinkKind.CONFIRM, request)
        language, texts = _texts(found, request)
        title = await self._title(found) or texts.this_list
        heading = texts.confirm.format(title=title)
        buttons = [(CONFIRM, texts.subscribe)]
        return _page(language, heading, texts.confirm_text, buttons=buttons)

    async def confirm(self, request: web.Request) -> web.Response:
        """Make a subscription active; an earlier opt-out of its list counts no more."""
        request[REPEATABLE] = True
        await self._choice(request)
        found = self._read(LinkKind.CONFIRM, request)
        language, texts = _texts(found, request)
        try:
            await self._confirm(found)
        except (NoAnswer, Unavailable) as error:
            return _away(request, language, texts, error)
        title = await self._title(found)
        return _page(language, texts.confirmed, texts.confirmed_text, title)

    async def _opt_out(self, found: LinkedSubscription | None, *, everything: bool) -> None:
        if found is None:
            return
        entry = NewSuppression(
            email=found.email,
            client=found.client,
            list_id=None if everything else found.content_type,
            categories=(Category.BULK,),
            origin=SuppressionOrigin.UNSUBSCRIBE,
        )
        question = AddSuppressions(id=self.new_id(), suppressions=(entry,))
        await self.ask(question, SuppressionsChanged)

    async def _confirm(self, found: LinkedSubscription | None) -> None:
        if found is None:
            return
        await self._lift_opt_out(found)
        identifier = subscription_id(found.client, found.content_type, found.email)
        question = ConfirmSubscription(id=self.new_id(), subscription_id=identifier)
        await self.ask(question, SubscriptionAnswered)

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


def _away(request: web.Request, language: str, texts: LinkTexts, error: Exception) -> web.Response:
    """Return a page for a reader; a mail program repeats its POST after a 503."""
    request[REASON] = str(error)
    response = _page(language, texts.away, texts.away_text)
    response.set_status(HTTPStatus.SERVICE_UNAVAILABLE)
    response.headers.update(retry_after())
    return response


def _page(
    language: str,
    heading: str,
    text: str,
    name: str | None = None,
    *,
    buttons: Sequence[tuple[str, str]] = (),
) -> web.Response:
    nonce = secrets.token_urlsafe(16)
    html = _TEMPLATE.render(
        language=language, heading=heading, text=text, name=name, buttons=buttons, nonce=nonce
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    )
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
    return web.Response(text=html, content_type="text/html", charset="utf-8", headers=headers)
