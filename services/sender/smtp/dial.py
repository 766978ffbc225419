"""TCP to the relay, and the name that follows from it."""

import asyncio
import socket
from typing import Any


async def dial(host: str, port: int, seconds: float) -> socket.socket:
    """Connect to the first address of `host` that answers within `seconds`. Raises OSError.

    The SMTP library could do it, but it has one limit for TCP, which is there at once or not at
    all, and for the greeting, which a busy server may hold back for minutes (RFC 5321
    4.5.3.2.1).
    """
    failure = OSError(f"{host} has no address")
    loop = asyncio.get_running_loop()
    for family, kind, number, _, where in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        try:
            return await _connected(socket.socket(family, kind, number), where, seconds)
        except TimeoutError:
            failure = TimeoutError(f"{host} does not answer on port {port}")
        except OSError as error:
            failure = error
    raise failure


def literal(sock: socket.socket) -> str:
    """Return our own address in the form that EHLO takes (RFC 5321 4.1.3)."""
    own = sock.getsockname()[0]
    return f"[{own}]" if sock.family == socket.AF_INET else f"[IPv6:{own}]"


async def _connected(sock: socket.socket, where: tuple[Any, ...], seconds: float) -> socket.socket:
    try:
        sock.setblocking(False)  # noqa: FBT003 -- the standard library's only form
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock
