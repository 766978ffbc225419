"""The key with which a user of the local stack calls its gateway."""

from http import HTTPStatus

import aiohttp

from ops.stack.errors import StackError
from ops.stack.keys import Keys

_ID = "local"
_NAME = "CLIENT_KEY"  # in the file of secrets


async def client_key(gateway_url: str, admin_token: str, keys: Keys) -> str:
    """Register the client, or find the key it got when it was registered. Raises StackError."""
    headers = {"Authorization": f"Bearer {admin_token}"}
    try:
        async with aiohttp.ClientSession(gateway_url, headers=headers) as session:
            return await _client_key(session, keys)
    except aiohttp.ClientError as error:
        raise StackError(f"the gateway does not register a client: {error}") from error


async def _client_key(session: aiohttp.ClientSession, keys: Keys) -> str:
    known = keys.find(_NAME)
    key = await _register(session)
    if key is None and known is not None:
        return known
    if key is None:  # registered, but its key is lost: it is told once only
        async with session.delete(f"/v1/clients/{_ID}"):
            key = await _register(session)
    if key is None:
        raise StackError("the gateway registers no client: see its log")
    keys.put(_NAME, key)
    return key


async def _register(session: aiohttp.ClientSession) -> str | None:
    """Give the new key; None when the client is registered already."""
    async with session.post("/v1/clients", json={"id": _ID}) as response:
        if response.status == HTTPStatus.CONFLICT:
            return None
        response.raise_for_status()
        return str((await response.json())["api_key"])
