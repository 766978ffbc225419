"""What a request carries beside what its caller sent, from the door to the log."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from services.gateway.clients.clients import Client

CALLER = web.RequestKey("caller", str)  # the address of whoever calls
CLIENT = web.RequestKey("client", Client)  # who asks; set before the view is called
SUBJECT = web.RequestKey("subject", str)  # the id of what was made, for the log
REPLAYED = web.RequestKey("replayed", bool)  # whether it was asked for before, by its key
HARMLESS = web.RequestKey("harmless", bool)  # whether it may well be sent again without a key
# Frees the budget of the request's body; called when the request is answered.
RELEASE = web.RequestKey[Callable[[], None]]("release", Callable)  # type: ignore[arg-type]

View = Callable[[web.Request], Awaitable[web.Response]]
