"""What the API of the mailbox answers."""

from collections.abc import Callable, Mapping
from typing import Final

import orjson
from aiohttp import web
from pydantic import ValidationError

from ops.simulator.behaviour import Behaviour
from ops.simulator.mail import Mail
from ops.simulator.mailbox import Mailbox
from ops.simulator.policy import Policy
from ops.simulator.problem import problem

LIMIT: Final = 100  # messages in one answer, if not asked for another number
MOST: Final = 1000

# Links may be followed, in a new tab; nothing else leaves the mail, no script runs.
_MAIL_RULES: Final = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; "
    "style-src 'unsafe-inline'; img-src data:; font-src data:; form-action 'none'; "
    "frame-ancestors 'self'"
)
_MAIL_HEAD: Final = '<!doctype html><meta charset="utf-8"><base target="_blank">'


class Views:
    """One method for each thing that can be asked for."""

    def __init__(self, mailbox: Mailbox, policy: Policy, ports: Mapping[str, int | None]) -> None:
        """Build it; `ports` are those of SMTP by name, for the page to show."""
        self._mailbox = mailbox
        self._policy = policy
        self._ports = ports

    async def health(self, _request: web.Request) -> web.Response:
        """Say that we are there, and on which ports mail is taken."""
        return _json({"status": "ok", "ports": self._ports})

    async def messages(self, request: web.Request) -> web.Response:
        """Answer `?to=`, `?search=`, `?limit=` and `?brief=`, the newest first."""
        limit = _limit(request.query.get("limit"))
        if limit is None:
            return problem(400, "bad-limit", f"limit must be a number from 1 to {MOST}.")
        to, part = request.query.get("to"), request.query.get("search")
        found = self._mailbox.search(part) if part else self._mailbox.find(to)
        view = _brief if "brief" in request.query else _full
        answer = _json([view(mail, request) for mail in found[:limit]])
        answer.headers["X-Total-Count"] = str(len(found))
        return answer

    async def message(self, request: web.Request) -> web.Response:
        """Answer one mail."""
        return self._one(request, lambda mail: _json(_full(mail, request)))

    async def raw(self, request: web.Request) -> web.Response:
        """Answer the octets as received."""
        return self._one(
            request,
            lambda mail: web.Response(body=mail.raw, content_type="message/rfc822"),
        )

    async def source(self, request: web.Request) -> web.Response:
        """Answer the octets as text to be read in a browser."""
        return self._one(
            request,
            lambda mail: web.Response(text=mail.raw.decode("utf-8", "replace")),
        )

    async def html(self, request: web.Request) -> web.Response:
        """Answer the HTML of a mail, harmless even if opened by itself."""
        return self._one(request, _shown)

    async def clear(self, _request: web.Request) -> web.Response:
        """Forget all mails."""
        self._mailbox.clear()
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

    def _one(self, request: web.Request, view: Callable[[Mail], web.Response]) -> web.Response:
        mail = self._mailbox.get(request.match_info["id"])
        if mail is None:
            return problem(404, "unknown-message", "There is no message with this id.")
        return view(mail)


def _limit(asked: str | None) -> int | None:
    if asked is None:
        return LIMIT
    right = asked.isascii() and asked.isdecimal() and 1 <= int(asked[:9]) <= MOST
    return int(asked) if right else None


def _brief(mail: Mail, request: web.Request) -> dict[str, object]:
    return {
        "id": mail.id,
        "from": mail.sender,
        "to": mail.recipients,
        "subject": mail.subject,
        "received_at": mail.received_at,
        "size": len(mail.raw),
        "raw_url": str(request.url.origin() / "api/messages" / mail.id / "raw"),
    }


def _full(mail: Mail, request: web.Request) -> dict[str, object]:
    content = mail.content()
    return {
        **_brief(mail, request),
        "headers": mail.headers,
        "text": content.text,
        "html": content.html,
        "attachments": content.attachments,
    }


def _shown(mail: Mail) -> web.Response:
    return web.Response(
        text=_MAIL_HEAD + (mail.content().html or ""),
        content_type="text/html",
        headers={"Content-Security-Policy": _MAIL_RULES},
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
