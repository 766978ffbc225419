"""Names that the mailbox answers to: protection against DNS rebinding.

A page of a stranger can have its own name resolve to 127.0.0.1 and then read this origin, codes
included, from the browser of whoever has it open. The name in `Host` is then the stranger's.
"""

from collections.abc import Collection
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from ops.simulator.problem import Handler, ProblemError

LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def answering_to(names: Collection[str]) -> Middleware:
    """Return a middleware that refuses requests for other hosts than `LOCAL` and these."""
    allowed = LOCAL | {name.lower() for name in names}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _name(request.headers.get("Host", "")) not in allowed:
            detail = "The mailbox does not answer to this host name. MAILBOX_HOSTS can allow it."
            raise ProblemError(421, "unknown-host", detail)
        return await handler(request)

    return check


def _name(host: str) -> str:
    """Return the host without its port, the brackets of IPv6 and the dot of the root."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].removesuffix(".").lower()
