"""What the API of the mailbox answers."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import orjson
from aiohttp import web
from pydantic import ValidationError
from yarl import URL

from ops.simulator.attachment import filename, is_viewable, response_headers, with_images
from ops.simulator.behaviour import Behaviour
from ops.simulator.mail import StoredMail
from ops.simulator.mailbox import Mailbox
from ops.simulator.policy import SmtpPolicy
from ops.simulator.request import MailPageQuery, MailQuery, ProblemError, problem, read

# Links may be followed, in a new tab; nothing else leaves the mail, no script runs.
_MAIL_RULES: Final = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; "
    "style-src 'unsafe-inline'; img-src data:; font-src data:; form-action 'none'; "
    "frame-ancestors 'self'"
)
_MAIL_HEAD: Final = '<!doctype html><meta charset="utf-8"><base target="_blank">'


class MailboxApi:
    """One method for each thing that can be asked for."""

    def __init__(
        self,
        mailbox: Mailbox,
        policy: SmtpPolicy,
        ports: Mapping[str, int | None],
        published: str | None = None,
    ) -> None:
        """Build it; `ports` are those of SMTP by name, `published` is where clients reach it."""
        self._mailbox = mailbox
        self._policy = policy
        self._ports = ports
        self._published = published

    async def health(self, _request: web.Request) -> web.Response:
        """Answer on which ports mail is taken, and where they are published, if that is known."""
        published = {"smtp_published": self._published} if self._published else {}
        return _json({"status": "ok", "ports": self._ports, **published})

    async def messages(self, request: web.Request) -> web.Response:
        """Answer a page of the messages, the newest first, and a link to the next page."""
        asked = read(MailPageQuery, request.query)
        # Mails are parsed to be shown: that may last, and SMTP must go on meanwhile.
        return await asyncio.to_thread(_page, self._mailbox.find(asked.to), asked, request.url)

    async def message(self, request: web.Request) -> web.Response:
        """Answer one mail."""
        mail = self._mail(request)
        return _json(await asyncio.to_thread(_full, mail, request.url))

    async def attachment(self, request: web.Request) -> web.Response:
        """Answer an attachment by its number, from 0, as a file that runs nothing."""
        mail, number = self._mail(request), request.match_info["number"]
        found = (await asyncio.to_thread(mail.content)).attachments
        if int(number) >= len(found):
            raise ProblemError(404, "unknown-attachment", "There is no such attachment.")
        chosen = found[int(number)]
        return web.Response(body=chosen.octets, headers=response_headers(chosen))

    async def raw(self, request: web.Request) -> web.Response:
        """Answer the octets as received."""
        mail = self._mail(request)
        # Chromium would show this type as a page.
        saved = {"Content-Disposition": f'attachment; filename="{mail.id}.eml"'}
        return web.Response(body=mail.raw, content_type="message/rfc822", headers=saved)

    async def source(self, request: web.Request) -> web.Response:
        """Answer the octets as text to be read in a browser."""
        return web.Response(text=self._mail(request).raw.decode("utf-8", "replace"))

    async def html(self, request: web.Request) -> web.Response:
        """Answer the HTML of a mail, harmless even if opened by itself."""
        return await asyncio.to_thread(_shown, self._mail(request))

    async def delete(self, request: web.Request) -> web.Response:
        """Forget one mail."""
        self._mailbox.remove([self._mail(request)])
        return web.Response(status=204)

    async def clear(self, request: web.Request) -> web.Response:
        """Forget the mails that fit the query, all of them without one."""
        asked = read(MailQuery, request.query)
        mails = self._mailbox.find(asked.to)
        self._mailbox.remove(await asyncio.to_thread(_fitting, mails, asked))
        return web.Response(status=204)

    async def behaviour(self, _request: web.Request) -> web.Response:
        """Answer how the simulator behaves."""
        return _json(self._policy.behaviour.model_dump(mode="json"))

    async def behave(self, request: web.Request) -> web.Response:
        """Replace the behaviour as a whole; what is not given is as by default."""
        try:
            self._policy.behaviour = Behaviour.model_validate_json(await request.read())
        except ValidationError as error:
            return _invalid(error)
        return await self.behaviour(request)

    async def good_manners(self, request: web.Request) -> web.Response:
        """Return to the defaults."""
        self._policy.forget()
        return await self.behaviour(request)

    def _mail(self, request: web.Request) -> StoredMail:
        mail = self._mailbox.get(request.match_info["id"])
        if mail is None:
            raise ProblemError(404, "unknown-message", "There is no message with this id.")
        return mail


def _page(mails: Sequence[StoredMail], asked: MailPageQuery, url: URL) -> web.Response:
    found = _fitting(mails, asked)
    # Mails come and go between two pages; ids sort by arrival, so no page repeats or skips one.
    older = [mail for mail in found if asked.before is None or mail.id < asked.before]
    view = _brief if asked.brief else _full
    answer = _json([view(mail, url) for mail in older[: asked.limit]])
    answer.headers["X-Total-Count"] = str(len(found))
    if len(older) > asked.limit:
        following = url.update_query(before=older[asked.limit - 1].id)
        answer.headers["Link"] = f'<{following}>; rel="next"'  # RFC 8288
    return answer


def _fitting(mails: Sequence[StoredMail], asked: MailQuery) -> Sequence[StoredMail]:
    if asked.recipient is not None:
        mails = [mail for mail in mails if mail.is_to(asked.recipient.lower())]
    if asked.search is not None:
        mails = [mail for mail in mails if mail.mentions(asked.search)]
    return mails


def _brief(mail: StoredMail, url: URL) -> dict[str, object]:
    return {
        "id": mail.id,
        "from": mail.sender,
        "to": mail.recipients,
        "subject": mail.subject,
        "received_at": mail.received_at,
        "size": len(mail.raw),
        "attachment_count": mail.summary.attachments,
        "raw_url": f"{_address(mail, url)}/raw",
    }


def _full(mail: StoredMail, url: URL) -> dict[str, object]:
    content = mail.content()
    return {
        **_brief(mail, url),
        "headers": mail.headers,
        "text": content.text,
        "html": content.html,
        "attachments": [
            {
                "filename": filename(each),
                "content_type": each.content_type,
                "size": each.size,
                "content_id": each.content_id,
                "viewable": is_viewable(each),
                "url": f"{_address(mail, url)}/attachments/{number}",
            }
            for number, each in enumerate(content.attachments)
        ],
    }


def _address(mail: StoredMail, url: URL) -> URL:
    return url.origin() / "api/messages" / mail.id


def _shown(mail: StoredMail) -> web.Response:
    content = mail.content()
    return web.Response(
        text=_MAIL_HEAD + with_images(content.html or "", content.attachments),
        content_type="text/html",
        # A mail's `<link rel=dns-prefetch>` would tell its sender that it was opened.
        headers={"Content-Security-Policy": _MAIL_RULES, "X-DNS-Prefetch-Control": "off"},
    )


def _invalid(error: ValidationError) -> web.Response:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    if any(detail["type"] == "json_invalid" for detail in details):
        return problem(400, "bad-json", details[0]["msg"])
    errors = [
        {"field": ".".join(map(str, detail["loc"])), "detail": detail["msg"]} for detail in details
    ]
    return problem(422, "bad-behaviour", "This is no behaviour.", errors=errors)


def _json(data: object) -> web.Response:
    return web.Response(body=orjson.dumps(data), content_type="application/json")
