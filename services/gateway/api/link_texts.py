"""Pure: the words of the pages behind the links in mails, and the language that a reader wants."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

MAX_ACCEPT_CHARS = 200  # of the reader's languages

_LANGUAGE = re.compile(
    r"(?:^|,)\s*([a-z]{2})(?:-[a-z0-9-]*)?\s*(?:;\s*q=([01](?:\.\d*)?))?\s*(?=,|$)"
)
# From right to left, and what changes the direction of the text behind it (UAX #9).
_RIGHT_TO_LEFT = {"R", "AL", "AN"}
_DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


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
    gone: str
    gone_text: str


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
        "This link does not work any more",
        "Please subscribe again to get a new one.",
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
        "Dieser Link funktioniert nicht mehr",
        "Bitte abonnieren Sie noch einmal, um einen neuen zu erhalten.",
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
        "Ce lien ne fonctionne plus",
        "Veuillez vous abonner à nouveau pour en recevoir un autre.",
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
        "Este enlace ya no funciona",
        "Suscríbase de nuevo para recibir otro.",
    ),
}


def accepted_languages(header: str) -> Sequence[str]:
    """Return the languages of Accept-Language, the most wanted first (RFC 9110 12.5.4)."""
    found = [
        (float(weight or 1), tag)
        for tag, weight in _LANGUAGE.findall(header[:MAX_ACCEPT_CHARS].lower())
    ]
    found.sort(key=lambda each: -each[0])
    return [tag for weight, tag in found if weight > 0]


def isolated(title: str) -> str:
    """Return a list's name, whose direction changes nothing of the text around it.

    A name in Arabic or Hebrew would else move the punctuation behind it.
    """
    kinds = [unicodedata.bidirectional(each) for each in title]
    if not (_RIGHT_TO_LEFT | _DIRECTIONS).intersection(kinds):
        return title
    kept = (each for each, kind in zip(title, kinds, strict=True) if kind not in _DIRECTIONS)
    isolate, end = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"
    return f"{isolate}{''.join(kept)}{end}"
