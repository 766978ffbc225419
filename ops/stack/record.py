"""`stack.json`: where a running stack is, for those who want to use it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ops import private_file


@dataclass(frozen=True)
class Record:
    """What never changes while the stack runs."""

    gateway_url: str
    admin_token: str = field(repr=False)
    client_key: str = field(repr=False)
    amqp_url: str = field(repr=False)
    management_url: str | None
    smtp_host: str
    smtp_port: int
    mailbox_url: str


def write(
    path: Path, record: Record, pids: Mapping[str, int | None], health: Mapping[str, str]
) -> None:
    """Write the record with the services' present process ids and health URLs."""
    services = {name: {"pid": pid, "health_url": health[name]} for name, pid in pids.items()}
    private_file.write(path, json.dumps(asdict(record) | {"services": services}, indent=2) + "\n")
