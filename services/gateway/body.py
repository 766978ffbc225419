"""Taking in a request's body: JSON only, not too large, not too slowly."""

import asyncio

from aiohttp import web

from services.gateway.problem import TIMEOUT, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, Problem


async def read(request: web.Request, within: float) -> bytes:
    """Give the body of a JSON request; `within` is in seconds. Raises Problem.

    The application's own limit holds for what is read, also of a body without a length and of a
    compressed one; a length that is announced is believed, so that nothing is read in vain.
    """
    if request.content_type != "application/json":
        raise Problem(UNSUPPORTED_MEDIA_TYPE)
    if (request.content_length or 0) > request.client_max_size:
        raise Problem(TOO_LARGE, f"At most {request.client_max_size} bytes are taken.")
    try:
        async with asyncio.timeout(within):
            return await request.read()
    except TimeoutError:
        raise Problem(TIMEOUT, headers={"Connection": "close"}) from None
