"""Answers that are no problem."""

from collections.abc import Mapping

from aiohttp import web

from services.gateway.api.answers import Accepted, ResponseBody

JSON = "application/json"
# Keeps answers out of caches, their type from being guessed, and our parts to ourselves.
HARDENING = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Server": "postrider",
}


def answer(
    status: int, content: ResponseBody, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Give an answer with a body."""
    return web.Response(body=content.encode(), status=status, headers=headers, content_type=JSON)


def accepted(identifier: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Give the answer that something is kept."""
    return answer(202, Accepted(id=identifier), headers)
