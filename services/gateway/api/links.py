"""The pages behind the links in mails: to unsubscribe, and to confirm a subscription.

Programs that scan mail follow every link, so only a POST changes anything. Mail programs send it by
themselves (RFC 8058 3.2): without a login, a cookie or a redirect. Its answer is the same for a
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

from services.gateway.api.link_texts import TEXTS, LinkTexts, accepted_languages, isolated
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
    SubscriptionResult,
    SuppressionOrigin,
    SuppressionsChanged,
)
from shared.contracts.schedule import subscription_id
from shared.errors import NoAnswer, Unavailable
from shared.links import LinkedSubscription, LinkKind, Links
from shared.storage.rate import LocalRateLimiter

MAX_FORM_BYTES = 4 * 1024
# Of one subscription, whichever of its links is used: each costs questions to other services.
MAX_USES, USES_SECONDS = 60, 60.0
MAX_KEY_CHARS = 64  # of a token that is unknown
ONE, ALL, CONFIRM = "one", "all", "confirm"  # the values of the buttons
UNSUBSCRIBE_PATH, CONFIRM_PATH = "/unsubscribe/{token}", "/subscribe/{token}"

_PAGE = Path(__file__).parent.parent / "page" / "link.html"
_TEMPLATE = jinja2.Environment(
    autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
).from_string(_PAGE.read_text(encoding="utf-8"))


class _Reader(NamedTuple):
    """The subscription of a link, None for a token that is unknown, and the reader's language."""

    found: LinkedSubscription | None
    language: str
    texts: LinkTexts


@dataclass(frozen=True, slots=True)
class LinkViews(AskingViews):
    """The pages behind links, whose tokens `links` can read.

    An unknown token costs no question to another service, and its uses are counted like those of a
    subscription.
    """

    links: Links
    limiter: LocalRateLimiter
    now: Callable[[], datetime]

    async def show_unsubscribe(self, request: web.Request) -> web.Response:
        """Return the page that asks; it changes nothing."""
        reader, wait = self._read(LinkKind.UNSUBSCRIBE, request)
        if wait:
            return _too_often(reader, wait)
        texts = reader.texts
        title = await self._title(reader.found) or texts.this_list
        buttons = [(ONE, texts.one), (ALL, texts.all)]
        heading = texts.unsubscribe.format(title=title)
        return _page(reader.language, heading, texts.unsubscribe_text, buttons=buttons)

    async def unsubscribe(self, request: web.Request) -> web.Response:
        """Keep an opt-out of the list, or of all lists if that button was pressed."""
        request[REPEATABLE] = True
        choice = await self._choice(request)
        reader, wait = self._read(LinkKind.UNSUBSCRIBE, request)
        if wait:
            return _too_often(reader, wait)
        try:
            await self._opt_out(reader.found, everything=choice == ALL)
        except (NoAnswer, Unavailable) as error:
            return _away(request, reader, error)
        texts = reader.texts
        text = texts.done_all_text if choice == ALL else texts.done_text
        title = await self._title(reader.found) if choice == ONE else None
        return _page(reader.language, texts.done, text, title)

    async def show_confirm(self, request: web.Request) -> web.Response:
        """Return the page that asks; it changes nothing."""
        reader, wait = self._read(LinkKind.CONFIRM, request)
        if wait:
            return _too_often(reader, wait)
        if reader.found is None:
            return _gone(reader)
        texts = reader.texts
        heading = texts.confirm.format(title=await self._title(reader.found) or texts.this_list)
        buttons = [(CONFIRM, texts.subscribe)]
        return _page(reader.language, heading, texts.confirm_text, buttons=buttons)

    async def confirm(self, request: web.Request) -> web.Response:
        """Make a subscription active; an earlier opt-out of its list counts no more."""
        request[REPEATABLE] = True
        await self._choice(request)
        reader, wait = self._read(LinkKind.CONFIRM, request)
        if wait:
            return _too_often(reader, wait)
        try:
            if reader.found is None or not await self._confirm(reader.found):
                return _gone(reader)
        except (NoAnswer, Unavailable) as error:
            return _away(request, reader, error)
        title = await self._title(reader.found)
        return _page(reader.language, reader.texts.confirmed, reader.texts.confirmed_text, title)

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

    async def _confirm(self, found: LinkedSubscription) -> bool:
        """Return whether the subscription is active; only then its opt-out is lifted.

        If the second question fails, no mail of the list is sent, and the reader tries again.
        """
        identifier = subscription_id(found.client, found.content_type, found.email)
        question = ConfirmSubscription(id=self.new_id(), subscription_id=identifier)
        answer = await self.ask(question, SubscriptionAnswered)
        if answer.result is not SubscriptionResult.CONFIRMED:
            return False
        await self._lift_opt_out(found)
        return True

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

    def _read(self, kind: LinkKind, request: web.Request) -> tuple[_Reader, float]:
        """Return the reader of a link, and the seconds to wait if it was used too often."""
        token = request.match_info["token"]
        found = self.links.read(kind, token, self.now())
        key = token[:MAX_KEY_CHARS]
        if found is not None:
            key = subscription_id(found.client, found.content_type, found.email)
        wait = self.limiter.wait((request.method, key))
        return _Reader(found, *_texts(found, request)), wait

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
        return isolated((content_type and content_type.title) or found.content_type)


def _texts(found: LinkedSubscription | None, request: web.Request) -> tuple[str, LinkTexts]:
    """Return the words in the subscription's language, or else in one that the reader accepts."""
    own = found.locale if found is not None and found.locale else ""
    accepted = request.headers.get("Accept-Language", "")
    languages = [own[:2].lower(), *accepted_languages(accepted)]
    language = next((each for each in languages if each in TEXTS), "en")
    return language, TEXTS[language]


def _gone(reader: _Reader) -> web.Response:
    """Return a page for a link to confirm that has no subscription, or has none any more."""
    page = _page(reader.language, reader.texts.gone, reader.texts.gone_text)
    page.set_status(HTTPStatus.NOT_FOUND)
    return page


def _away(request: web.Request, reader: _Reader, error: Exception) -> web.Response:
    """Return a page for a reader; a mail program repeats its POST after a 503."""
    request[REASON] = str(error)
    return _try_again(reader, HTTPStatus.SERVICE_UNAVAILABLE, retry_after())


def _too_often(reader: _Reader, seconds: float) -> web.Response:
    return _try_again(reader, HTTPStatus.TOO_MANY_REQUESTS, retry_after(seconds))


def _try_again(reader: _Reader, status: HTTPStatus, headers: Mapping[str, str]) -> web.Response:
    page = _page(reader.language, reader.texts.away, reader.texts.away_text)
    page.set_status(status)
    page.headers.update(headers)
    return page


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
