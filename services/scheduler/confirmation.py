"""Pure: the mail that asks a subscriber to confirm a subscription."""

from datetime import datetime
from typing import NamedTuple

from shared.contracts import Category, NewsletterSubscription, SendEmail
from shared.links import LinkedSubscription, LinkKind, Links


class ConfirmationTexts(NamedTuple):
    """The texts of the mail in one language; `{title}` is the list's name."""

    subject: str
    text: str


TEXTS = {
    "en": ConfirmationTexts(
        "Confirm your subscription to {title}",
        "Somebody, probably you, subscribed this address to {title}.\n\n"
        "Confirm it here:\n{link}\n\n"
        "If it was not you, do nothing: you will get no mail of it.\n",
    ),
    "de": ConfirmationTexts(
        "Bestätigen Sie Ihr Abonnement von {title}",
        "Jemand, wahrscheinlich Sie, hat mit dieser Adresse {title} abonniert.\n\n"
        "Bestätigen Sie das hier:\n{link}\n\n"
        "Wenn Sie es nicht waren, tun Sie nichts: Sie erhalten dann keine Mail davon.\n",
    ),
    "fr": ConfirmationTexts(
        "Confirmez votre abonnement à {title}",
        "Quelqu'un, sans doute vous, a abonné cette adresse à {title}.\n\n"
        "Confirmez-le ici :\n{link}\n\n"
        "Si ce n'était pas vous, ne faites rien : vous ne recevrez aucun message.\n",
    ),
    "es": ConfirmationTexts(
        "Confirme su suscripción a {title}",
        "Alguien, probablemente usted, ha suscrito esta dirección a {title}.\n\n"
        "Confírmelo aquí:\n{link}\n\n"
        "Si no fue usted, no haga nada: no recibirá ningún correo.\n",
    ),
}


def texts_for(locale: str | None) -> ConfirmationTexts:
    """Return the texts of a language tag, English for one that has none."""
    return TEXTS.get((locale or "")[:2].lower(), TEXTS["en"])


def confirmation_link(subscription: NewsletterSubscription, links: Links, until: datetime) -> str:
    """Return the link that makes a subscription active, and works until a time."""
    return links.to(
        LinkedSubscription(
            kind=LinkKind.CONFIRM,
            client=subscription.client,
            email=subscription.email,
            content_type=subscription.content_type,
            locale=subscription.locale,
            expires_at=until,
        )
    )


def confirmation(
    identifier: str, subscription: NewsletterSubscription, title: str, link: str, now: datetime
) -> SendEmail:
    """Return the mail with the link, which alone makes the subscription active."""
    texts = texts_for(subscription.locale)
    return SendEmail(
        id=identifier,
        client=subscription.client,
        category=Category.TRANSACTIONAL,
        to=(subscription.email,),
        subject=texts.subject.format(title=title),
        text=texts.text.format(title=title, link=link),
        created_at=now,
        metadata={"subscription": subscription.subscription_id},
    )
