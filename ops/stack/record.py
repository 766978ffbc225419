"""The addresses and keys of a running stack: in `stack.json`, and on the terminal."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path

import aiohttp

from ops import secret_file
from ops.secret_file import SecretFile
from ops.stack.settings import StackError

_ID = "local"
_NAME = "CLIENT_KEY"  # in the file of secrets
_MAIL = '{"to": "you@inbox.example", "subject": "Hello", "text": "It works."}'
_CODE = '{"email": "you@inbox.example"}'


@dataclass(frozen=True)
class StackRecord:
    """The addresses and keys, which do not change while the stack runs."""

    gateway_url: str
    admin_token: str = field(repr=False)
    client_key: str = field(repr=False)
    amqp_url: str = field(repr=False)
    management_url: str | None
    smtp_host: str
    smtp_port: int
    mailbox_url: str


def write(
    path: Path, record: StackRecord, pids: Mapping[str, int | None], health: Mapping[str, str]
) -> None:
    """Write the record, with the services' process ids and health URLs."""
    services = {name: {"pid": pid, "health_url": health[name]} for name, pid in pids.items()}
    secret_file.write(path, json.dumps(asdict(record) | {"services": services}, indent=2) + "\n")


async def client_key(gateway_url: str, admin_token: str, keys: SecretFile) -> str:
    """Register a client, or return the key from its registration. Raises StackError."""
    headers = {"Authorization": f"Bearer {admin_token}"}
    try:
        async with aiohttp.ClientSession(gateway_url, headers=headers) as session:
            return await _client_key(session, keys)
    except aiohttp.ClientError as error:
        raise StackError(f"the gateway does not register a client: {error}") from error


async def _client_key(session: aiohttp.ClientSession, keys: SecretFile) -> str:
    known = keys.find(_NAME)
    key = await _register(session)
    if key is None and known is not None:
        return known
    if key is None:  # its key is lost: the gateway shows it once only
        async with session.delete(f"/v1/clients/{_ID}"):
            key = await _register(session)
    if key is None:
        raise StackError("the gateway registers no client: see its log")
    keys.put(_NAME, key)
    return key


async def _register(session: aiohttp.ClientSession) -> str | None:
    """Return the new key, None when the client is registered already."""
    async with session.post("/v1/clients", json={"id": _ID}) as response:
        if response.status == HTTPStatus.CONFLICT:
            return None
        response.raise_for_status()
        return str((await response.json())["api_key"])


def announcement(record: StackRecord, run_dir: str) -> str:
    """Return the addresses, and three commands to try. Pure."""
    return f"""
Postrider is up.

  gateway    {record.gateway_url}
  mailbox    {record.mailbox_url}
  SMTP       {record.smtp_host}:{record.smtp_port}
  RabbitMQ   {record.management_url or "as given by AMQP_URL"}
  files      {run_dir}: stack.json has all addresses and keys, logs/ has the logs

Send a mail, have a code sent, look at what arrived:

  {_curl(record, "messages", _MAIL)}

  {_curl(record, "otp", _CODE)}

  curl -s '{record.mailbox_url}/api/messages?to=you@inbox.example'

Ctrl-C ends all of it.
"""


def _curl(record: StackRecord, resource: str, body: str) -> str:
    return (
        f"curl -s {record.gateway_url}/v1/{resource} \\\n"
        f"    -H 'Authorization: Bearer {record.client_key}' \\\n"
        f"    -H 'Content-Type: application/json' \\\n"
        f"    -d '{body}'"
    )
