"""A program's user of the broker and its queue of events, which an operator makes.

A program may declare nothing: each queue that is bound to `mail.events` can block the events of
all others (issue 10, A13).
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from ops.broker import BrokerError, Management
from shared import rights
from shared.topology import EVENTS, EXCHANGES, Queue

_PASSWORD_BYTES = 24


def make(
    management: Management,
    vhost: str,
    name: str,
    password: str | None = None,
    keys: Sequence[str] = rights.ALL_PROGRAM_EVENTS,
) -> str | None:
    """Create the user, its rights and its queue; return its new password, None if it keeps the old.

    The messages in the queue stay; its bindings become those to `keys`. Raises BrokerError for a
    user that is no program, ManagementError also for a queue with other arguments, OSError.
    """
    account = _account(management, name)
    _put_queue(management, vhost, rights.program_queue(name, keys))
    if password is None and not account:
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
    if password is not None:
        login: Mapping[str, str] = {"password": password}
    else:  # a user without either could not log in
        login = {key: account[key] for key in ("password_hash", "hashing_algorithm")}
    management.put_user(vhost, rights.program_user(name), login)
    for limit, value in rights.PROGRAM_LIMITS.items():
        if limit not in account.get("limits", ()):
            management.request("PUT", f"/user-limits/{name}/{limit}", {"value": value})
    return password


def remove(management: Management, vhost: str, name: str) -> None:
    """Remove the user, which closes its connections, and its queue with all messages.

    Does nothing where they do not exist. Raises as `make` does.
    """
    queue = rights.program_queue(name).name
    if _account(management, name):
        management.request("DELETE", f"/users/{name}")
    if queue in _names(management, "queues", vhost):
        management.request("DELETE", f"/queues/{_quoted(vhost)}/{queue}")


def leftovers(management: Management, vhost: str, name: str) -> Sequence[str]:
    """Describe the program's other queues and exchanges, which earlier versions let it declare."""
    ours = rights.program_queue(name).name
    return [
        f"{kind.removesuffix('s')} {each}"
        for kind in ("queues", "exchanges")
        for each in _names(management, kind, vhost)
        if each.startswith(f"{name}.") and each != ours
    ]


def login(administrator: str, name: str, password: str | None) -> str:
    """Return the AMQP URL of a program, with the first host and the vhost of the administrator's.

    Libraries know no address with several hosts.
    """
    where = urlsplit(administrator)
    account = name if password is None else f"{name}:{quote(password, safe='')}"
    place = where.netloc.rpartition("@")[2].partition(",")[0]
    return f"{where.scheme}://{account}@{place}{where.path or '/'}"


def _account(management: Management, name: str) -> Mapping[str, Any]:
    """Return the broker's record of a user, empty when there is none."""
    found: Any = management.request("GET", "/users")
    account: Mapping[str, Any] = next((each for each in found if each["name"] == name), {})
    if account.get("tags"):
        raise BrokerError(f"the user {name} has tags, so it is no program's: {account['tags']}")
    return account


def _put_queue(management: Management, vhost: str, queue: Queue) -> None:
    (events,) = (each for each in EXCHANGES if each.name == EVENTS)
    management.put_exchange(vhost, events)
    body = {"durable": True, "arguments": queue.arguments}
    management.request("PUT", f"/queues/{_quoted(vhost)}/{queue.name}", body)
    wanted = [(binding.exchange, binding.key) for binding in queue.bindings]
    for source, key in wanted:
        path = f"/bindings/{_quoted(vhost)}/e/{source}/q/{queue.name}"
        management.request("POST", path, {"routing_key": key})
    for source, key, path in _bindings(management, vhost, queue.name):
        if (source, key) not in wanted:
            management.request("DELETE", path)


def _bindings(management: Management, vhost: str, queue: str) -> Iterator[tuple[str, str, str]]:
    """Yield exchange, key and path of each binding but that of the default exchange."""
    found: Any = management.request("GET", f"/queues/{_quoted(vhost)}/{queue}/bindings")
    for each in found:
        source, properties = _quoted(each["source"]), _quoted(each["properties_key"])
        if source:
            path = f"/bindings/{_quoted(vhost)}/e/{source}/q/{queue}/{properties}"
            yield each["source"], each["routing_key"], path


def _names(management: Management, kind: str, vhost: str) -> Sequence[str]:
    found: Any = management.request("GET", f"/{kind}/{_quoted(vhost)}?columns=name")
    return sorted(each["name"] for each in found)


def _quoted(text: str) -> str:
    return quote(text, safe="")
