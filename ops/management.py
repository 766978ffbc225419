"""RabbitMQ's management API, as far as starting a broker and its tests need it."""

import base64
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from shared.topology import User

NOTHING = "^$"  # the pattern of no name and no key at all
_TIMEOUT = 10.0  # seconds for one request
# By scheme; the ports are RabbitMQ's own: https://www.rabbitmq.com/docs/management
_KINDS = {
    "http": (http.client.HTTPConnection, 15672),
    "https": (http.client.HTTPSConnection, 15671),
}


class ManagementError(Exception):
    """The management API refused a request."""


@dataclass(frozen=True)
class Management:
    """A management API and who asks. Methods raise OSError when it cannot be reached."""

    url: str
    user: str
    password: str

    def request(self, method: str, path: str, body: object = None) -> object:
        """Send one request under `/api`; give the decoded answer, None when it is empty.

        Raises ManagementError for any answer but 2xx.
        """
        where = urlsplit(self.url)
        kind, port = _KINDS[where.scheme]
        connection = kind(where.hostname or "", where.port or port, timeout=_TIMEOUT)
        token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"authorization": f"Basic {token}", "content-type": "application/json"}
        try:
            connection.request(method, f"/api{path}", json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if not http.client.OK <= response.status < http.client.MULTIPLE_CHOICES:
            raise ManagementError(f"{method} {path}: {response.status} {content.decode()}")
        return json.loads(content) if content else None

    def answers(self) -> bool:
        """Whether it is up and knows us."""
        try:
            self.request("GET", "/whoami")
        except (OSError, http.client.HTTPException, ManagementError):
            return False
        return True

    def add_vhost(self, name: str) -> None:
        """Create a vhost in which this user may do everything."""
        self.request("PUT", f"/vhosts/{quote(name, safe='')}", {})
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        self.request("PUT", f"/permissions/{quote(name, safe='')}/{quote(self.user)}", rights)

    def put_user(self, vhost: str, user: User, account: Mapping[str, str]) -> None:
        """Make or change a user and its rights in a vhost; `account` has password or hash."""
        where = f"{quote(vhost, safe='')}/{user.name}"
        self.request("PUT", f"/users/{user.name}", {**account, "tags": ""})
        # Keys before exchanges: where there is no pattern for keys, every key may be written.
        for exchange, keys in user.topics.items():
            rights = {"exchange": exchange, "write": keys, "read": NOTHING}
            self.request("PUT", f"/topic-permissions/{where}", rights)
        rights = {"configure": NOTHING, "write": user.write, "read": user.read}
        self.request("PUT", f"/permissions/{where}", rights)

    def remove_vhost(self, name: str) -> None:
        """Delete a vhost with all that is in it; its connections are closed."""
        self.request("DELETE", f"/vhosts/{quote(name, safe='')}")
